"""Which value is white: a grey value becomes the brightness that its file says, or an error in words."""

import io
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from frostline.features.images.decoding import DecodeError, remark_on, upright_rgb
from frostline.testing.images import encode, photo
from tests.helpers.images import png_chunks, png_of, tiff

BLACK_IS_ZERO, WHITE_IS_ZERO = 1, 0
PHOTOMETRIC, BITS, SAMPLE_FORMAT, LARGEST = 262, 258, 339, 281
RAMP = np.linspace(0, 255, 40 * 30).astype(np.uint8).reshape(30, 40)
DEEP = RAMP.astype(np.uint16) * 257


def grey_of(data):
    pixels = np.asarray(upright_rgb(data))
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


def refusal_of(data):
    with pytest.raises(DecodeError) as refused:
        upright_rgb(data)
    return str(refused.value)


def packed(values, bits):
    """Values of a few bits, without gaps, each row starting with a whole byte."""
    rows = (values[..., None] >> np.arange(bits)[::-1]) & 1
    return np.packbits(rows.reshape(len(values), -1).astype(bool), axis=1)


class TestWhiteIsZero:
    @pytest.mark.parametrize("bits", [1, 2, 4])
    def test_few_bits(self, bits):
        values = RAMP >> (8 - bits)
        data = tiff(packed(values, bits), {256: 40, BITS: bits, PHOTOMETRIC: WHITE_IS_ZERO})
        white = (1 << bits) - 1
        np.testing.assert_array_equal(grey_of(data), (white - values.astype(int)) * 255 // white)

    def test_8_bits(self):
        np.testing.assert_array_equal(grey_of(tiff(255 - RAMP, {PHOTOMETRIC: WHITE_IS_ZERO})), RAMP)

    def test_16_bits_are_no_negative(self):
        np.testing.assert_array_equal(grey_of(tiff(65535 - DEEP, {PHOTOMETRIC: WHITE_IS_ZERO})), RAMP)

    def test_16_bits_big_endian_is_read_or_refused_by_its_kind(self):
        data = tiff(65535 - DEEP, {PHOTOMETRIC: WHITE_IS_ZERO}, order=">")
        assert "1 channel of 16 bits, white is zero" in refusal_of(data)

    def test_12_of_16_bits(self):
        data = tiff(4095 - (DEEP >> 4), {PHOTOMETRIC: WHITE_IS_ZERO, LARGEST: 4095})
        np.testing.assert_array_equal(grey_of(data), RAMP)

    @pytest.mark.parametrize("samples", [RAMP, DEEP])
    def test_unknown_is_refused(self, samples):
        assert "zero is black or white" in refusal_of(tiff(samples, {}))


class TestFewerBits:
    @pytest.mark.parametrize("bits", [10, 12, 14])
    @pytest.mark.parametrize("order", ["<", ">"])
    def test_tiff_with_the_largest_value(self, bits, order):
        data = tiff(DEEP >> (16 - bits), {PHOTOMETRIC: BLACK_IS_ZERO, LARGEST: (1 << bits) - 1}, order=order)
        image = upright_rgb(data)
        np.testing.assert_array_equal(np.asarray(image)[..., 0], RAMP)
        assert not remark_on(image)

    def test_tiff_of_12_packed_bits(self):
        values = packed(DEEP.astype(int) >> 4, 12)
        data = tiff(values, {256: 40, BITS: 12, PHOTOMETRIC: BLACK_IS_ZERO})
        np.testing.assert_array_equal(grey_of(data), RAMP)

    def test_largest_value_that_is_only_the_largest_of_this_image_says_nothing(self):
        data = tiff(DEEP, {PHOTOMETRIC: BLACK_IS_ZERO, LARGEST: 40_000})
        np.testing.assert_array_equal(grey_of(data), RAMP)

    def test_values_above_the_largest_are_refused(self):
        data = tiff(DEEP, {PHOTOMETRIC: BLACK_IS_ZERO, LARGEST: 4095})
        assert "values up to 65535, while the file says that they have 12 bits" in refusal_of(data)

    @pytest.mark.parametrize("bits", [10, 12, 14])
    def test_png_with_significant_bits_that_were_not_scaled(self, bits):
        data = with_significant_bits(encode(Image.fromarray(DEEP >> (16 - bits))), bits)
        np.testing.assert_array_equal(grey_of(data), RAMP)

    @pytest.mark.parametrize("darker", [0, 5])
    def test_png_with_significant_bits_that_were_scaled_as_the_standard_says(self, darker):
        values = (DEEP >> 4) >> darker
        data = with_significant_bits(encode(Image.fromarray(values << 4 | values >> 8)), 12)
        np.testing.assert_array_equal(grey_of(data), RAMP >> darker)

    @pytest.mark.parametrize("bits", [10, 12])
    def test_pgm_says_its_white(self, bits):
        values = (DEEP >> (16 - bits)).astype(">u2")
        data = f"P5\n40 30\n{(1 << bits) - 1}\n".encode() + values.tobytes()
        assert np.abs(grey_of(data).astype(int) - RAMP).max() <= 1

    def test_colour_of_12_in_16_bits_is_refused(self):
        samples = np.repeat((DEEP >> 4)[..., None], 3, axis=2)
        data = tiff(samples, {PHOTOMETRIC: 2, LARGEST: (4095, 4095, 4095)})
        assert "16-bit colour whose values have 12 bits" in refusal_of(data)


def with_significant_bits(png, bits):
    header, *rest = png_chunks(png)
    return png_of([header, (b"sBIT", bytes([bits])), *rest])


class TestNothingTells:
    @pytest.mark.parametrize(
        "data",
        [
            encode(Image.fromarray(DEEP >> 4)),
            tiff(DEEP >> 4, {PHOTOMETRIC: BLACK_IS_ZERO}),
            tiff(np.repeat((DEEP >> 4)[..., None], 3, axis=2), {PHOTOMETRIC: 2}),
            b"P5\n40 30\n65535\n" + (DEEP >> 4).astype(">u2").tobytes(),
        ],
        ids=["png", "tiff", "colour", "pgm"],
    )
    def test_values_below_a_sixteenth_are_read_with_a_remark(self, data):
        image = upright_rgb(data)
        assert np.asarray(image).max() == 15
        assert "below 1/16 of white" in remark_on(image)

    @pytest.mark.parametrize("samples", [DEEP, DEEP >> 3, DEEP * 0, RAMP >> 4])
    def test_other_values_need_no_remark(self, samples):
        assert not remark_on(upright_rgb(encode(Image.fromarray(samples))))

    def test_colour_of_a_16_bit_png(self):
        rows = (np.repeat((DEEP >> 4)[..., None], 3, axis=2)).astype(">u2").reshape(30, -1)
        scanlines = b"".join(b"\0" + row.tobytes() for row in rows)
        header = encode(photo(40, 30))[16:24] + bytes([16, 2, 0, 0, 0])
        data = png_of([(b"IHDR", header), (b"IDAT", zlib.compress(scanlines)), (b"IEND", b"")])
        assert "below 1/16 of white" in remark_on(upright_rgb(data))


class TestWithoutWhite:
    @pytest.mark.parametrize(
        ("samples", "tags", "kind"),
        [
            (RAMP.astype("f4"), {SAMPLE_FORMAT: 3}, "32-bit floating point"),
            (RAMP.astype("f8"), {SAMPLE_FORMAT: 3}, "64-bit floating point"),
            (RAMP.astype("f2"), {SAMPLE_FORMAT: 3}, "16-bit floating point"),
            (RAMP.astype("i4"), {SAMPLE_FORMAT: 2}, "32-bit signed integer"),
            (RAMP.astype("u4"), {}, "32-bit integer"),
            (RAMP.astype("i2"), {SAMPLE_FORMAT: 2}, "16-bit signed integer"),
            (RAMP.astype("i1"), {SAMPLE_FORMAT: 2}, "8-bit signed integer"),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("order", ["<", ">"])
    def test_numbers_without_a_white_are_refused_by_name(self, samples, tags, kind, order):
        reason = refusal_of(tiff(samples, {PHOTOMETRIC: BLACK_IS_ZERO, **tags}, order=order))
        assert f"{kind} numbers have no defined white" in reason

    def test_a_kind_of_tiff_that_pillow_lacks_is_named(self):
        samples = np.zeros((3, 4, 7), np.uint8)
        assert "7 channels of 8 bits" in refusal_of(tiff(samples, {PHOTOMETRIC: BLACK_IS_ZERO}))


def test_warnings_of_pillow_are_silent_and_those_of_others_stay():
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0"
    data = encode(photo(40, 30), "JPEG", exif=exif)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        Image.open(io.BytesIO(data)).getexif()
        assert heard
        heard.clear()
        upright_rgb(data)
        assert not heard
        warnings.warn("another", stacklevel=1)
        Image.open(io.BytesIO(data)).getexif()
    assert len(heard) >= 2
