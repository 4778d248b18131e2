"""Decoding ahead of the network: from rows of a source to padded batches of uint8 pixels, in order."""

import itertools
import os
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frostline.features.content import CONTENT_BYTES, file_content
from frostline.features.images.decoding import DecodeError, Decoder, decode_views
from frostline.features.spec import Transform
from frostline.features.system.machine import usable_cores
from frostline.features.table import FAILED, NO_STAMP, OK, ImageSource


@dataclass(frozen=True, eq=False)
class Batch:
    """Pixels of some rows, in the one shape that an engine sees from first to last.

    Attributes:
        rows: (k,) int64 rows of the source, k * views <= batch_size.
        pixels: (batch_size, H, W, 3) uint8 RGB, the views of a row one after the other. Zero for an image that failed, and
            beyond k * views.
        content: (k, 16) uint8 digest of each file's bytes; zero where they could not be read.
        stamps: (k, 16) uint8 stamp of each image when it was read; `NO_STAMP` where it could not be.
        status: (k,) uint8 `OK` or `FAILED`.
        errors: Why each image failed, in one line; empty where it did not.
        views: Passes over each image.
    """

    rows: NDArray[np.int64]
    pixels: NDArray[np.uint8]
    content: NDArray[np.uint8]
    stamps: NDArray[np.uint8]
    status: NDArray[np.uint8]
    errors: tuple[str, ...]
    views: int = 1


def load_batches(
    source: ImageSource,
    rows: NDArray[np.int64],
    transform: Transform,
    *,
    batch_size: int,
    workers: int | None = None,
    block_rows: int,
    decoder: Decoder = "exact",
    views: int = 1,
    seed: int = 0,
) -> Iterator[Batch]:
    """Read and decode images in threads, a bounded number of batches ahead of the consumer.

    No batch holds rows of two blocks, so that a resumed run forms the batches of an uninterrupted one. An image that
    can't be read or decoded becomes a `FAILED` row and shifts no other. Closing the iterator stops the threads.

    Args:
        source: Where the images are; its `read` is called from several threads.
        rows: (n,) rows to load, sorted.
        transform: From image to pixels.
        batch_size: Images per batch.
        workers: Threads; by default `default_workers`.
        block_rows: Rows of a cache's block.
        decoder: See `features.images.decoding.decode`.
        views: Passes over each image: the first sees it as it is, the others random parts of it, see
            `features.images.decoding.decode_views`. They depend on the seed and the image's bytes alone.
        seed: Of the views.

    Yields:
        The batches, in the order of `rows`.

    Raises:
        ValueError: `batch_size`, `workers`, `block_rows` or `views` is less than 1, or a batch doesn't hold all views of an
            image.
    """
    workers = default_workers() if workers is None else workers
    sizes = {"batch_size": batch_size, "workers": workers, "block_rows": block_rows, "views": views}
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name}: got {value}, expected at least 1")
    if views > batch_size:
        raise ValueError(f"views: got {views}, expected at most the batch size, {batch_size}")
    look = _Look(transform, decoder, views, seed)
    jobs = (_Job(source, chunk, look, batch_size) for chunk in _chunks(rows, batch_size // views, block_rows))
    return _run(jobs, workers, ahead=1 + -(-2 * workers // batch_size))


def default_workers() -> int:
    """How many threads can run at once: this process's share of the cores that it may use.

    A launcher such as torchrun says in ``LOCAL_WORLD_SIZE`` how many processes share this machine.
    """
    sharing = os.environ.get("LOCAL_WORLD_SIZE", "1")
    cores = usable_cores()
    return max(1, cores // int(sharing)) if sharing.isdecimal() and sharing != "0" else cores


def _chunks(rows: NDArray[np.int64], batch_size: int, block_rows: int) -> Iterator[NDArray[np.int64]]:
    borders = np.flatnonzero(np.diff(rows // block_rows)) + 1
    for start, stop in itertools.pairwise([0, *borders.tolist(), len(rows)]):
        for first in range(start, stop, batch_size):
            yield rows[first : min(first + batch_size, stop)]


def _run(jobs: Iterator["_Job"], workers: int, ahead: int) -> Iterator[Batch]:
    """Keep `ahead` batches in work beyond the one that is waited for."""
    stop = threading.Event()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")

    def start(job: _Job) -> tuple[_Job, list[Future[None]]]:
        return job, [pool.submit(job.work, stop) for _ in range(min(workers, len(job.rows)))]

    try:
        in_work = deque(map(start, itertools.islice(jobs, ahead)))
        while in_work:
            in_work.extend(map(start, itertools.islice(jobs, 1)))
            job, futures = in_work.popleft()
            for future in futures:
                future.result()
            yield job.batch()
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class _Look:
    """How a file's bytes become pixels."""

    transform: Transform
    decoder: Decoder
    views: int
    seed: int

    def at(self, data: bytes, content: bytes, out: NDArray[np.uint8]) -> None:
        """Fill (views, H, W, 3)."""
        entropy = (self.seed, int.from_bytes(content, "little"))
        decode_views(data, self.transform, out, decoder=self.decoder, entropy=entropy)


class _Job:
    """One batch in the making. Threads share it, each drawing the next image until none is left."""

    def __init__(self, source: ImageSource, rows: NDArray[np.int64], look: _Look, batch_size: int) -> None:
        k = len(rows)
        self.rows = rows
        self._source, self._look = source, look
        self._pixels = np.zeros((batch_size, *look.transform.crop, 3), np.uint8)
        self._content = np.zeros((k, CONTENT_BYTES), np.uint8)
        self._stamps = np.tile(np.frombuffer(NO_STAMP, np.uint8), (k, 1))
        self._errors = [""] * k
        self._waiting = deque(range(k))

    def work(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                position = self._waiting.popleft()
            except IndexError:
                return
            try:
                self._load(position)
            except OSError as error:
                self._errors[position] = error.strerror or str(error) or type(error).__name__
            except DecodeError as error:
                self._errors[position] = str(error)

    def _load(self, position: int) -> None:
        data, stamp = self._source.read(int(self.rows[position]))
        content = file_content(data)
        self._content[position] = np.frombuffer(content, np.uint8)
        self._stamps[position] = np.frombuffer(stamp, np.uint8)
        views = self._look.views
        self._look.at(data, content, self._pixels[position * views : (position + 1) * views])

    def batch(self) -> Batch:
        status = np.array([FAILED if error else OK for error in self._errors], np.uint8)
        errors = tuple(self._errors)
        return Batch(
            self.rows, self._pixels, self._content, self._stamps, status, errors, views=self._look.views
        )
