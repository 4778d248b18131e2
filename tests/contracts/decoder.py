"""Contract of decoders of image files."""

from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from frostline.features.images.decoders import DECODERS, DecoderKind, decoder_of, describe_decoder
from frostline.features.images.decoding import DecodeError, decode
from frostline.features.spec import Transform
from frostline.testing.images import encode, photo

TRANSFORM = Transform(24, "shortest", (20, 22), "bilinear", (0.5,) * 3, (0.5,) * 3)
"""Transform of the tests, to 20 x 22 pixels."""


def decoded(name: str, data: bytes, transform: Transform = TRANSFORM) -> NDArray[np.uint8]:
    """Return the (h, w, 3) uint8 pixels of an image file by a decoder."""
    out = np.full((*transform.crop, 3), 77, np.uint8)
    decode(data, transform, out, decoder=name)
    return out


def _difference(name: str, data: bytes, transform: Transform = TRANSFORM) -> int:
    """Return the largest difference from the pixels of the decoder ``exact``."""
    difference = decoded(name, data, transform).astype(int) - decoded("exact", data, transform)
    return int(np.abs(difference).max())


class DecoderContract:
    """Tests of a decoder; see `frostline.features.images.decoders.DecoderKind`.

    Attributes:
        name: Name of the decoder in the registry.
        tolerance: Largest accepted difference from the pixels of the decoder ``exact``, of 255.

    Example:
        >>> class TestTurbo(DecoderContract):
        ...     name = "turbo"
        ...     tolerance = 2
    """

    name: ClassVar[str]
    tolerance: ClassVar[int]

    def test_name_has_an_implementation(self) -> None:
        """Check that the registry has the name."""
        assert self.name in list(DECODERS)
        assert isinstance(DECODERS[self.name], DecoderKind)

    def test_name_is_found_in_the_description_with_and_without_views(self) -> None:
        """Check that a specification tells which decoder it describes."""
        plain, views = describe_decoder(self.name, 1), describe_decoder(self.name, 3)
        assert plain != views
        assert views.startswith(plain)
        assert decoder_of(plain) == decoder_of(views) == self.name
        assert describe_decoder(self.name, 1) == plain

    def test_no_other_decoder_has_its_description(self) -> None:
        """Check that no other decoder has the same description, and so the same cache key."""
        assert describe_decoder(self.name, 1) not in {
            describe_decoder(other, 1) for other in DECODERS if other != self.name
        }

    @pytest.mark.parametrize("size", [(40, 30), (30, 40), (24, 24), (9, 60), (200, 150)])
    @pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
    def test_pixels_are_close_to_the_exact_ones(
        self, size: tuple[int, int], mode: Literal["shortest", "longest", "squash"]
    ) -> None:
        """Check the pixels for images of several sizes and all resize modes."""
        resize = 24 if mode == "shortest" else (20, 22)
        transform = Transform(resize, mode, (20, 22), "bilinear", (0.5,) * 3, (0.5,) * 3)
        difference = _difference(self.name, encode(photo(*size)), transform)
        assert difference <= self.tolerance

    def test_pixels_of_equal_bytes_are_equal(self) -> None:
        """Check that a file gives the same pixels each time."""
        data = encode(photo(61, 47), "JPEG")
        np.testing.assert_array_equal(decoded(self.name, data), decoded(self.name, data))

    def test_pixels_are_the_same_in_several_threads(self) -> None:
        """Check that threads which decode at the same time do not disturb each other."""
        files = [encode(photo(61, 47, seed), "JPEG") for seed in range(4)]
        expected = [decoded(self.name, data) for data in files]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda data: decoded(self.name, data), files * 8))
        np.testing.assert_array_equal(found, expected * 8)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_photos_of_phones_are_upright(self, orientation: int) -> None:
        """Check that the EXIF orientation is applied."""
        exif = Image.Exif()
        exif[0x0112] = orientation
        difference = _difference(self.name, encode(photo(40, 30), "JPEG", exif=exif))
        assert difference <= self.tolerance

    @pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK"])
    def test_other_colours_become_rgb(self, mode: str) -> None:
        """Check that grey gets three equal channels, alpha is dropped, and palettes and CMYK are converted."""
        kind = "TIFF" if mode == "CMYK" else "PNG"
        difference = _difference(self.name, encode(photo(40, 30).convert(mode), kind))
        assert difference <= self.tolerance

    @pytest.mark.parametrize("data", [b"", b"no image", encode(photo(64, 64), "JPEG")[:900]])
    def test_broken_images_are_decode_errors_of_one_line(self, data: bytes) -> None:
        """Check that an empty, an unknown and a truncated file raise DecodeError and write no pixels."""
        out = np.full((20, 22, 3), 77, np.uint8)
        with pytest.raises(DecodeError) as raised:
            decode(data, TRANSFORM, out, decoder=self.name)
        assert len(str(raised.value).splitlines()) == 1
        assert (out == 77).all()
