"""Prefetching loader: decodes rows of a source into padded batches of uint8 pixels, in order."""

import itertools
import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from frostline.features.content import CONTENT_BYTES, file_content
from frostline.features.images.decoders import DECODERS, DecoderKind
from frostline.features.images.decoding import DecodeError, decode_views, reason_of
from frostline.features.spec import Transform
from frostline.features.table import FAILED, NO_STAMP, OK, ImageSource
from frostline.system.resources import usable_cores


@dataclass(frozen=True, eq=False)
class Batch:
    """Pixels of a batch of rows. All batches of a run have the same shape.

    Attributes:
        rows: (k,) int64 rows of the source, k * views <= batch_size.
        pixels: (batch_size, H, W, 3) uint8 RGB, with the views of a row next to each other. Zero for failed images
            and beyond k * views.
        content: (k, 16) uint8 digest of each file's bytes; zero for unreadable files.
        stamps: (k, 16) uint8 stamp of each image when it was read; `NO_STAMP` for unreadable files.
        status: (k,) uint8 `OK` or `FAILED`.
        errors: One-line reason for each failed image; empty for the others.
        views: Views per image.
        remarks: Sentence by row on each image whose pixels may not mean what its file says; see
            `frostline.features.images.decoding.remark_on`.
    """

    rows: NDArray[np.int64]
    pixels: NDArray[np.uint8]
    content: NDArray[np.uint8]
    stamps: NDArray[np.uint8]
    status: NDArray[np.uint8]
    errors: tuple[str, ...]
    views: int = 1
    remarks: Mapping[int, str] = field(default_factory=dict)


def load_batches(
    source: ImageSource,
    rows: NDArray[np.int64],
    transform: Transform,
    *,
    batch_size: int,
    workers: int | None = None,
    block_rows: int,
    decoder: str = "exact",
    views: int = 1,
    seed: int = 0,
) -> Iterator[Batch]:
    """Read and decode images in threads, a bounded number of batches ahead of the consumer.

    No batch spans two blocks, so that a resumed run forms the same batches as an uninterrupted one. An image that
    can't be read or decoded becomes a `FAILED` row and leaves the others in place. Closing the iterator stops the
    threads.

    Args:
        source: Source of the images. Its `read` is called from several threads.
        rows: (n,) int64 rows to load, sorted.
        transform: Preprocessing from image to pixels.
        batch_size: Images per batch.
        workers: Number of threads; None for `default_workers`.
        block_rows: Rows per block of the cache.
        decoder: Name in `frostline.features.images.decoders.DECODERS`.
        views: Views per image: the plain image, then random crops (see `frostline.features.images.decoding.decode_views`).
            They depend only on the seed and the image's bytes.
        seed: Random seed of the views.

    Yields:
        The batches, in the order of `rows`.

    Raises:
        ValueError: `batch_size`, `workers`, `block_rows` or `views` is less than 1, or `views` is larger than
            `batch_size`.
        DecoderError: The decoder is unknown.
    """
    workers = default_workers() if workers is None else workers
    sizes = {"batch_size": batch_size, "workers": workers, "block_rows": block_rows, "views": views}
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name}: got {value}, expected at least 1")
    if views > batch_size:
        raise ValueError(f"views: got {views}, expected at most the batch size, {batch_size}")
    decoding = _Decoding(transform, DECODERS[decoder], views, seed)
    chunks = _chunks(rows, batch_size // views, block_rows)

    def batches() -> Iterator[Batch]:
        with source.ahead(rows) as reader:
            jobs = (_Job(reader, chunk, decoding, batch_size) for chunk in chunks)
            yield from _run(jobs, workers, ahead=1 + -(-2 * workers // batch_size))

    return batches()


def default_workers() -> int:
    """Return the default number of threads: this process's share of the usable cores.

    Launchers such as torchrun set ``LOCAL_WORLD_SIZE`` to the number of processes that share the machine.
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
    """Yield the batches of the jobs, with `ahead` batches in progress beyond the next one."""
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
class _Decoding:
    """Settings for decoding a file's bytes to pixels."""

    transform: Transform
    decoder: DecoderKind
    views: int
    seed: int

    def decode_into(self, data: bytes, content: bytes, out: NDArray[np.uint8]) -> str:
        """Decode the views of an image into `out`, (views, H, W, 3); return the remark on it."""
        entropy = (self.seed, int.from_bytes(content, "little"))
        return decode_views(data, self.transform, out, decoder=self.decoder, entropy=entropy)


class _Job:
    """Loading of one batch. Threads share it and take images from it until all are loaded."""

    def __init__(
        self, source: ImageSource, rows: NDArray[np.int64], decoding: _Decoding, batch_size: int
    ) -> None:
        k = len(rows)
        self.rows = rows
        self._source, self._decoding = source, decoding
        self._pixels = np.zeros((batch_size, *decoding.transform.crop, 3), np.uint8)
        self._content = np.zeros((k, CONTENT_BYTES), np.uint8)
        self._stamps = np.tile(np.frombuffer(NO_STAMP, np.uint8), (k, 1))
        self._errors = [""] * k
        self._remarks: dict[int, str] = {}
        self._waiting = deque(range(k))

    def work(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                position = self._waiting.popleft()
            except IndexError:
                return
            try:
                self._load(position)
            except (OSError, DecodeError, MemoryError) as error:
                self._errors[position] = reason_of(error)

    def _load(self, position: int) -> None:
        data, stamp = self._source.read(int(self.rows[position]))
        content = file_content(data)
        self._content[position] = np.frombuffer(content, np.uint8)
        self._stamps[position] = np.frombuffer(stamp, np.uint8)
        views = self._decoding.views
        pixels = self._pixels[position * views : (position + 1) * views]
        if remark := self._decoding.decode_into(data, content, pixels):
            self._remarks[int(self.rows[position])] = remark

    def batch(self) -> Batch:
        status = np.array([FAILED if error else OK for error in self._errors], np.uint8)
        return Batch(
            self.rows,
            self._pixels,
            self._content,
            self._stamps,
            status,
            tuple(self._errors),
            views=self._decoding.views,
            remarks=dict(sorted(self._remarks.items())),
        )
