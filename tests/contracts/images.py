"""Small image files."""

import io
from typing import Any

import numpy as np
from PIL import Image


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Return an RGB image with smooth shapes and fine texture, like a photo.

    Args:
        width: Width in pixels.
        height: Height in pixels.
        seed: Random seed. Images of different seeds differ.
    """
    rng = np.random.default_rng(seed)
    shapes = Image.fromarray(rng.integers(0, 256, (5, 7, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    texture = rng.integers(-20, 21, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(shapes) + texture, 0, 255).astype(np.uint8))


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Return the bytes of an image's file.

    Args:
        image: The image.
        kind: Format, by Pillow's name.
        options: Further options of `PIL.Image.Image.save`.
    """
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
