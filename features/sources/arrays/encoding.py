"""Arrays of pixels as image files."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from frostline.features.errors import SourceError

_CHANNELS = (1, 3, 4)
_FORMATS = {"PNG": ("1", "LA", "P", "RGBA", "I;16"), "TIFF": ("CMYK",)}
_MOST = 100_000_000  # images of an array


def check_images(shape: Sequence[int], dtype: np.dtype[Any], where: str) -> None:
    """Raise `SourceError` unless an array holds images that `image_file` takes.

    Args:
        shape: Shape of the array.
        dtype: Type of its elements.
        where: Place named in the message.
    """
    if dtype != np.uint8:
        raise SourceError(
            f"{where}: got numbers of type {dtype}, expected uint8 from 0 to 255. Scale the images to this range and"
            " convert them"
        )
    if (
        len(shape) not in {3, 4}
        or min(shape) < 1
        or shape[0] > _MOST
        or (len(shape) == 4 and not {*_CHANNELS} & {shape[1], shape[3]})
    ):
        raise SourceError(
            f"{where}: got an array of shape {tuple(shape)}, expected (n, height, width) or (n, height, width, channels),"
            f" or channels first, with {', '.join(map(str, _CHANNELS))} channels"
        )


def image_file(pixels: NDArray[np.uint8]) -> bytes:
    """Return an image as the bytes of a file without compression, the same everywhere for the same pixels.

    Args:
        pixels: (height, width) or (height, width, channels) uint8, or channels first: grey, RGB or RGBA.

    Returns:
        A PNM file, or a PNG file if there is transparency.
    """
    if pixels.ndim == 3 and pixels.shape[2] not in _CHANNELS:
        pixels = pixels.transpose(1, 2, 0)
    pixels = np.ascontiguousarray(pixels)
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG", compress_level=0)
        return file.getvalue()
    kind = "P6" if pixels.ndim == 3 and pixels.shape[2] == 3 else "P5"
    return f"{kind}\n{pixels.shape[1]} {pixels.shape[0]}\n255\n".encode() + pixels.tobytes()


def picture_file(picture: Image.Image) -> bytes:
    """Return a picture of Pillow as the bytes of a file without compression, upright.

    Raises:
        SourceError: The picture has a mode that no lossless file holds.
    """
    upright = ImageOps.exif_transpose(picture)
    if upright.mode in {"L", "RGB"}:
        return image_file(np.asarray(upright))
    kind = next((kind for kind, modes in _FORMATS.items() if upright.mode in modes), None)
    if kind is None:
        raise SourceError(f"got a picture of mode {upright.mode}; convert it to RGB")
    file = io.BytesIO()
    upright.save(file, kind, **({"compress_level": 0} if kind == "PNG" else {}))
    return file.getvalue()
