"""Thumbnails of a map, which together take a bounded number of bytes."""

import base64
import io
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from frostline.features.images.batches import default_workers
from frostline.features.images.thumbnails import Pictures

BUDGET: Final = 14 * 2**20
"""Largest number of bytes of all thumbnails of a page, before their encoding as text, which adds a third."""

_SIDES = (160, 128, 96, 80, 64, 56, 48, 40, 32, 24, 16)  # pixels
_BYTES_PER_PIXEL = 0.28  # of a photo of these sides as WebP of medium quality
_QUALITIES = (75, 50, 30, 15)
_AHEAD = 4  # images per thread that are read ahead


def tile_side(count: int) -> int:
    """Return the longest side in pixels at which `count` thumbnails of photos fit into `BUDGET`."""
    room = BUDGET / max(count, 1)
    return next((side for side in _SIDES if side**2 * _BYTES_PER_PIXEL <= room), _SIDES[-1])


def encode_tile(picture: Image.Image, most: int) -> bytes:
    """Encode a thumbnail as WebP of at most `most` bytes: with less quality, then with fewer pixels.

    One of a single pixel is returned whatever its size.
    """
    while True:
        for quality in _QUALITIES:
            buffer = io.BytesIO()
            picture.save(buffer, "WEBP", quality=quality)
            if buffer.tell() <= most:
                return buffer.getvalue()
        if max(picture.size) == 1:
            return buffer.getvalue()
        picture = picture.resize((max(1, picture.width // 2), max(1, picture.height // 2)))


def tiles(
    pictures: Pictures, rows: NDArray[np.int64], *, workers: int | None, advance: Callable[[int], object]
) -> list[str]:
    """Return a thumbnail per row as WebP in base64; empty for an image that can't be read.

    All together, before their encoding in base64, take at most `BUDGET` bytes.

    Args:
        pictures: The images.
        rows: (m,) rows of the cache.
        workers: Number of threads; None for one per core.
        advance: Function that is called with the number of thumbnails made since the last call.
    """
    side, most = tile_side(len(rows)), BUDGET // max(len(rows), 1)

    def tile(row: int) -> str:
        picture = pictures.thumbnail(row, side).picture
        return "" if picture is None else base64.b64encode(encode_tile(picture, most)).decode()

    found = []
    for each in _in_order(tile, rows.tolist(), workers or default_workers()):
        found.append(each)
        advance(1)
    return found


def _in_order(function: Callable[[int], str], items: list[int], workers: int) -> Iterator[str]:
    """Yield what a function returns for each item, in order, from threads that run few items ahead."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="tiles")
    waiting: deque[Future[str]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > _AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
