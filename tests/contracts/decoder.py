"""What holds for every decoder, whatever library it decodes with."""

import numpy as np
import pytest
from PIL import Image

from frostline.features.images.decoders import DECODERS, DecoderKind, decoder_of, describe_decoder
from frostline.features.images.decoding import DecodeError, decode
from frostline.features.spec import Transform
from tests.helpers.images import encode, photo

TRANSFORM = Transform(24, "shortest", (20, 22), "bilinear", (0.5,) * 3, (0.5,) * 3)


def decoded(name, data, transform=TRANSFORM):
    out = np.full((*transform.crop, 3), 77, np.uint8)
    decode(data, transform, out, decoder=name)
    return out


class DecoderContract:
    """Tests of one decoder; a subclass gives its name.

    Fixtures:
        name: Name of the decoder in the registry.
        tolerance: Largest accepted difference from the exact pixels, of 255.
    """

    def test_name_has_an_implementation(self, name):
        assert name in list(DECODERS)
        assert isinstance(DECODERS[name], DecoderKind)

    def test_name_is_found_in_the_description_with_and_without_views(self, name):
        plain, views = describe_decoder(name, 1), describe_decoder(name, 3)
        assert plain != views
        assert views.startswith(plain)
        assert decoder_of(plain) == decoder_of(views) == name
        assert describe_decoder(name, 1) == plain

    def test_no_other_decoder_has_its_description(self, name):
        assert describe_decoder(name, 1) not in {
            describe_decoder(other, 1) for other in DECODERS if other != name
        }

    @pytest.mark.parametrize("size", [(40, 30), (30, 40), (24, 24), (9, 60), (200, 150)])
    @pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
    def test_pixels_are_close_to_the_exact_ones(self, name, tolerance, size, mode):
        resize = 24 if mode == "shortest" else (20, 22)
        transform = Transform(resize, mode, (20, 22), "bilinear", (0.5,) * 3, (0.5,) * 3)
        data = encode(photo(*size))
        difference = decoded(name, data, transform).astype(int) - decoded("exact", data, transform)
        assert np.abs(difference).max() <= tolerance

    def test_pixels_of_equal_bytes_are_equal(self, name):
        data = encode(photo(61, 47), "JPEG")
        np.testing.assert_array_equal(decoded(name, data), decoded(name, data))

    def test_phone_photos_are_upright_and_grey_has_three_channels(self, name, tolerance):
        exif = Image.Exif()
        exif[0x0112] = 6
        for data in (encode(photo(40, 30), "JPEG", exif=exif), encode(photo(40, 30).convert("L"))):
            difference = decoded(name, data).astype(int) - decoded("exact", data)
            assert np.abs(difference).max() <= tolerance

    @pytest.mark.parametrize("data", [b"", b"no image", encode(photo(64, 64), "JPEG")[:900]])
    def test_broken_images_are_decode_errors_of_one_line(self, name, data):
        out = np.full((20, 22, 3), 77, np.uint8)
        with pytest.raises(DecodeError) as raised:
            decode(data, TRANSFORM, out, decoder=name)
        assert len(str(raised.value).splitlines()) == 1
        assert (out == 77).all()
