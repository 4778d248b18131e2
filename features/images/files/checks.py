"""Checks whether the pixels of a loaded image are whole, by its format."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from frostline.features.images.files.damage import (
    ZEROS,
    Pixels,
    avif_damage,
    gif_damage,
    is_torn,
    webp_damage,
)
from frostline.features.images.files.jpeg import jpeg_damage
from frostline.features.images.files.png import png_damage
from frostline.features.images.files.tiff_strips import tiff_damage

Check = Callable[[Image.Image, bytes, int, Pixels], str]
"""Function that returns what is wrong with the pixels of a loaded image; empty for nothing."""


def damage(image: Image.Image, data: bytes, scan: int, pixels: Pixels) -> str:
    """Return what is wrong with the pixels of a loaded image; empty for nothing.

    Args:
        image: The image.
        data: Bytes of its file.
        scan: Position in the file after the header.
        pixels: Function that decodes a file to the bytes of its pixels; None if it can't.
    """
    check = _BY_FORMAT.get(image.format or "")
    return check(image, data, scan, pixels) if check else ""


def _raw_damage(image: Image.Image, data: bytes, _scan: int, _pixels: Pixels) -> str:
    if data.find(ZEROS) >= 0 and is_torn(np.asarray(image), upwards=image.format == "BMP"):
        return "a row of pixels ends in its middle, and only zeros follow"
    return ""


def _tiff_damage(image: Image.Image, data: bytes, scan: int, pixels: Pixels) -> str:
    if image.info.get("compression") == "raw":
        return _raw_damage(image, data, scan, pixels)
    return tiff_damage(image, data) if isinstance(image, TiffImageFile) else ""


_BY_FORMAT: Final[Mapping[str, Check]] = {
    "AVIF": lambda _image, data, _scan, pixels: avif_damage(data, pixels),
    "BMP": _raw_damage,
    "GIF": lambda _image, data, _scan, _pixels: gif_damage(data),
    "HEIF": lambda _image, data, _scan, pixels: avif_damage(data, pixels),
    "JPEG": lambda _image, data, scan, pixels: jpeg_damage(data, scan, pixels),
    "PNG": lambda _image, data, _scan, _pixels: png_damage(data),
    "PPM": _raw_damage,
    "TIFF": _tiff_damage,
    "WEBP": lambda _image, data, _scan, pixels: webp_damage(data, pixels),
}
