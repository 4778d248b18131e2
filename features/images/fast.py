"""Decoder ``fast``: Pillow, but resizing by torch, which has vector instructions for it.

The pixels differ from the exact ones by at most 3 of 255. Tall and squashed images, and filters other than bilinear
and bicubic, are resized exactly.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from frostline.features.images.decoders import BY_TORCH, DecoderKind
from frostline.features.images.decoding import upright_rgb
from frostline.features.images.exact import pillow_label, resize_by_pillow
from frostline.features.spec import Transform

_TORCH_MODES = ("bilinear", "bicubic")  # supported by torch with antialiasing


def _resize(
    image: Image.Image, size: tuple[int, int], transform: Transform
) -> Image.Image | NDArray[np.uint8]:
    if _torch_agrees(image, transform):
        return _resize_by_torch(image, size, transform.interpolation)
    return resize_by_pillow(image, size, transform)


def _torch_agrees(image: Image.Image, transform: Transform) -> bool:
    """Return whether torch resizes like Pillow: with the same filter, and columns before rows.

    The order matters where a bicubic filter overshoots, because intermediate values are clipped at black and white.
    Pillow resizes rows first for tall images and where it reduces their height more.
    """
    return (
        transform.interpolation in _TORCH_MODES
        and transform.resize_mode != "squash"
        and image.height < 1.9 * image.width
    )


def _resize_by_torch(image: Image.Image, size: tuple[int, int], interpolation: str) -> NDArray[np.uint8]:
    """Return (height, width, 3) uint8. torch has a single-threaded kernel for uint8 images in this layout."""
    import torch

    # copied because torch warns about read-only arrays
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(pixels, size[::-1], mode=interpolation, antialias=True)
    array: NDArray[np.uint8] = resized[0].permute(1, 2, 0).numpy()
    return array


FAST = DecoderKind(upright_rgb, _resize, lambda: pillow_label() + BY_TORCH)
