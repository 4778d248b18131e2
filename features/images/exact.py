"""Decoder ``exact``: Pillow, with the pixels of the reference transforms."""

import PIL
from PIL import Image
from PIL import features as pillow_features

from frostline.features.images.decoders import DecoderKind
from frostline.features.images.decoding import RESAMPLING, upright_rgb
from frostline.features.spec import Transform


def resize_by_pillow(image: Image.Image, size: tuple[int, int], transform: Transform) -> Image.Image:
    """Resize an image to (width, height) pixels, as the reference transforms do."""
    return image.resize(size, RESAMPLING[transform.interpolation])


def pillow_label() -> str:
    """Return the library, the codec (its rounding differs between releases) and the EXIF orientation."""
    codec = pillow_features.version("libjpeg_turbo") or pillow_features.version("jpg")
    return f"pillow {PIL.__version__}, libjpeg {codec}, exif"


EXACT = DecoderKind(upright_rgb, resize_by_pillow, pillow_label)
