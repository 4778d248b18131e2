"""What the pixels of images say of their quality: size, brightness and sharpness."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from frostline.features.images.batches import default_workers
from frostline.features.images.decoders import DECODERS
from frostline.features.images.decoding import DecodeError
from frostline.features.images.thumbnails import Pictures
from frostline.pipeline.progress import Reporter

_SIDE = 512  # longest side, in pixels, at which brightness and sharpness are measured
_AHEAD = 4  # images per thread that are read ahead


@dataclass(frozen=True, eq=False)
class Qualities:
    """Qualities of m images; NaN for those that can't be read.

    Attributes:
        width: (m,) pixels.
        height: (m,) pixels.
        brightness: (m,) 99th percentile of the luminance (ITU-R BT.601), from 0 to 1: a low value means that nearly
            all of the image is dark. CleanVision finds dark images by the same percentile.
        sharpness: (m,) variance of the Laplacian of the luminance, which has a range of 0 to 255 (Pech-Pacheco,
            Cristobal, Chamorro-Martinez & Fernandez-Valdivia 2000, Diatom autofocusing in brightfield microscopy).
            Images with a side above 512 pixels are scaled down first, so that sizes are comparable.
    """

    width: NDArray[np.float64]
    height: NDArray[np.float64]
    brightness: NDArray[np.float64]
    sharpness: NDArray[np.float64]

    @property
    def pixels(self) -> NDArray[np.float64]:
        """(m,) width times height."""
        return self.width * self.height

    @property
    def elongation(self) -> NDArray[np.float64]:
        """(m,) longer side divided by the shorter one."""
        return np.maximum(self.width, self.height) / np.minimum(self.width, self.height)


def measure(
    pictures: Pictures, rows: NDArray[np.int64], *, workers: int | None, report: Reporter
) -> Qualities:
    """Read the images of some rows in threads, and measure them.

    Args:
        pictures: The images.
        rows: (m,) rows of the cache.
        workers: Number of threads; None for one per core.
        report: Receiver of progress, and of a warning about images that can't be read.
    """
    values = np.full((len(rows), 4), np.nan)
    with report.task("Reading the images", len(rows)) as advance:
        for number, found in enumerate(_measured(pictures, rows, workers or default_workers())):
            values[number] = found
            advance(1)
    lost = int(np.isnan(values[:, 0]).sum())
    if lost:
        report.warn(
            f"{lost} of {len(rows)} images can't be read from {pictures.cache.source}; they are not measured."
        )
    return Qualities(*values.T)


def _measured(
    pictures: Pictures, rows: NDArray[np.int64], workers: int
) -> Iterator[tuple[float, float, float, float]]:
    """Yield what was measured of each row, in order, with few images in memory."""
    names = iter(pictures.cache.ids[rows].tolist())
    pool = ThreadPoolExecutor(workers, thread_name_prefix="measure")
    waiting: deque[Future[tuple[float, float, float, float]]] = deque()
    try:
        for name in names:
            waiting.append(pool.submit(_measure, pictures, name))
            if len(waiting) > _AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _measure(pictures: Pictures, name: str) -> tuple[float, float, float, float]:
    try:
        picture = DECODERS[pictures.decoder].read(pictures.read(name))
    except (OSError, DecodeError, MemoryError):
        return (np.nan,) * 4
    width, height = picture.size
    grey = picture.convert("L")
    grey.thumbnail((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    luminance = np.asarray(grey, np.float32)
    return width, height, float(np.percentile(luminance, 99)) / 255, _sharpness(luminance)


def _sharpness(luminance: NDArray[np.float32]) -> float:
    """Return the variance of the Laplacian, of 4 neighbours, without the border; of a narrow image with its border."""
    if min(luminance.shape) < 3:
        luminance = np.pad(luminance, 1, mode="edge")
    inner = luminance[1:-1, 1:-1]
    laplacian = (
        luminance[:-2, 1:-1] + luminance[2:, 1:-1] + luminance[1:-1, :-2] + luminance[1:-1, 2:] - 4 * inner
    )
    return float(laplacian.var(dtype=np.float64))
