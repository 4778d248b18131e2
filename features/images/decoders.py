"""Interface and registry of the decoders, and their descriptions in a specification."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import PIL

from frostline.features.errors import FeaturesError
from frostline.registry import Entry, Registry

if TYPE_CHECKING:  # the command line reads the registry without loading NumPy
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from frostline.features.spec import Transform

BY_TORCH = ", resized by torch"
"""End of the description of the decoder ``fast``."""

_OF_VIEWS = "; views: "


class DecoderError(FeaturesError, ValueError):
    """A decoder that is not available."""


@dataclass(frozen=True)
class DecoderKind:
    """How image files become pixels. The sizes, the crop and the padding are the same for every decoder.

    Both functions must be thread-safe.

    Attributes:
        read: Function that decodes the bytes of an image file to an upright RGB image. It raises
            `frostline.features.images.decoding.DecodeError` for bytes that are not a complete, readable image.
        resize: Function that resizes such an image to (width, height) pixels, with the interpolation of a
            transform, and returns an RGB image or a (height, width, 3) uint8 array.
        label: Function that returns the libraries and versions that affect the pixels, for the specification.
            The package of the decoder and its version are added to it.
    """

    read: "Callable[[bytes], Image.Image]"
    resize: "Callable[[Image.Image, tuple[int, int], Transform], Image.Image | NDArray[np.uint8]]"
    label: Callable[[], str]


_HERE = "frostline.features.images"

DECODERS: Registry[DecoderKind] = Registry(
    "decoder",
    {"exact": Entry(f"{_HERE}.exact:EXACT"), "fast": Entry(f"{_HERE}.fast:FAST")},
    group="frostline.decoders",
    adopt=lambda _name, found: found if isinstance(found, DecoderKind) else None,
    expected="a features.images.decoders.DecoderKind",
    error=DecoderError,
)
"""Registry of the decoders."""


def describe_decoder(decoder: str, views: int) -> str:
    """Return the description of a decoder for the specification.

    The description of a built-in decoder is its label. That of another package's begins with its name, the package
    and the version: ``turbo: frostline-turbo 1.5, libjpeg-turbo 3.1``.

    Args:
        decoder: Name in `DECODERS`.
        views: Views per image.

    Raises:
        DecoderError: The decoder is unknown.
    """
    from frostline.features.images.views import VIEWS

    label = DECODERS[decoder].label()
    if decoder in DECODERS.builtin:
        return label + (_OF_VIEWS + VIEWS if views > 1 else "")
    brought = [" ".join(package) for package in DECODERS.package(decoder).items()]
    text = f"{decoder}: {', '.join([*brought, label] if label else brought)}"
    return text + (f"{_OF_VIEWS}{VIEWS}, resized by pillow {PIL.__version__}" if views > 1 else "")


def decoder_of(text: str) -> str:
    """Return the name of the decoder that a specification describes, whatever its version."""
    plain = text.partition(_OF_VIEWS)[0]
    name, of_another_package, _ = plain.partition(": ")
    if of_another_package:
        return name
    return "fast" if plain.endswith(BY_TORCH) else "exact"
