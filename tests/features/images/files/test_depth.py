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


class TestLargestValue:
    """TIFF's MaxSampleValue is the range of the values, if it is one; where it may be either, the file is refused."""

    @pytest.mark.parametrize("order", ["<", ">"])
    def test_8_in_16_bits(self, order):
        data = tiff(RAMP.astype(np.uint16), {PHOTOMETRIC: BLACK_IS_ZERO, LARGEST: 255}, order=order)
        np.testing.assert_array_equal(grey_of(data), RAMP)
        assert not remark_on(upright_rgb(data))

    def test_8_in_16_bits_whose_zero_is_white(self):
        data = tiff((255 - RAMP).astype(np.uint16), {PHOTOMETRIC: WHITE_IS_ZERO, LARGEST: 255})
        np.testing.assert_array_equal(grey_of(data), RAMP)

    @pytest.mark.parametrize("largest", [255, 1023])
    def test_colour_of_few_bits_is_refused(self, largest):
        samples = np.repeat(RAMP.astype(np.uint16)[..., None], 3, axis=2)
        data = tiff(samples, {PHOTOMETRIC: 2, LARGEST: (largest,) * 3})
        assert f"whose values have {largest.bit_length()} bits" in refusal_of(data)

    @pytest.mark.parametrize("largest", [1, 100, 1000, 4094])
    @pytest.mark.parametrize("photometric", [BLACK_IS_ZERO, WHITE_IS_ZERO])
    def test_a_low_value_that_is_no_range_is_refused(self, largest, photometric):
        samples = (RAMP.astype(int) * largest // 255).astype(np.uint16)
        reason = refusal_of(tiff(samples, {PHOTOMETRIC: photometric, LARGEST: largest}))
        assert f"{largest} is the largest (tag MaxSampleValue)" in reason
        colour = np.repeat(samples[..., None], 3, axis=2)
        assert "MaxSampleValue" in refusal_of(tiff(colour, {PHOTOMETRIC: 2, LARGEST: (largest,) * 3}))

    def test_it_says_nothing_about_8_bits(self):
        data = tiff(RAMP // 4, {PHOTOMETRIC: BLACK_IS_ZERO, LARGEST: 63})
        np.testing.assert_array_equal(grey_of(data), RAMP // 4)

    def test_8_significant_bits_of_a_png(self):
        data = with_significant_bits(encode(Image.fromarray(RAMP.astype(np.uint16))), 8)
        np.testing.assert_array_equal(grey_of(data), RAMP)
        scaled = with_significant_bits(encode(Image.fromarray(DEEP)), 8)
        np.testing.assert_array_equal(grey_of(scaled), RAMP)


class TestRemarkOnColours:
    @pytest.mark.parametrize("largest", [30, 255, 300, 4095])
    @pytest.mark.parametrize("order", ["<", ">"])
    def test_colours_of_few_bits(self, largest, order):
        values = (RAMP.astype(int) * largest // 255).astype(np.uint16)
        data = tiff(np.repeat(values[..., None], 3, axis=2), {PHOTOMETRIC: 2}, order=order)
        assert "nearly black" in remark_on(upright_rgb(data))

    def test_grey_with_alpha(self):
        rows = np.stack([DEEP >> 4, DEEP * 0 + 65535], axis=2).astype(">u2").reshape(30, -1)
        scanlines = b"".join(b"\0" + row.tobytes() for row in rows)
        header = encode(photo(40, 30))[16:24] + bytes([16, 4, 0, 0, 0])
        data = png_of([(b"IHDR", header), (b"IDAT", zlib.compress(scanlines)), (b"IEND", b"")])
        assert "nearly black" in remark_on(upright_rgb(data))

    def test_low_values_are_white_where_zero_is(self):
        image = upright_rgb(tiff(DEEP >> 4, {PHOTOMETRIC: WHITE_IS_ZERO}))
        assert np.asarray(image).min() >= 240
        assert "nearly white" in remark_on(image)
        inks = np.repeat((DEEP >> 4)[..., None], 4, axis=2)
        image = upright_rgb(tiff(inks, {PHOTOMETRIC: 5, 332: 1}))
        assert np.asarray(image).min() >= 200
        assert "nearly white" in remark_on(image)


class TestPalette:
    RED, GREEN, BLUE = np.arange(256), np.arange(256)[::-1], np.arange(256) // 2

    @pytest.mark.parametrize("scale", [1, 256, 257])
    def test_numbers_of_8_bits_are_known_as_libtiff_does(self, scale):
        palette = np.concatenate([self.RED, self.GREEN, self.BLUE]) * scale
        data = tiff(RAMP, {PHOTOMETRIC: 3, 320: tuple(map(int, palette))})
        expected = np.stack([self.RED[RAMP], self.GREEN[RAMP], self.BLUE[RAMP]], axis=2)
        np.testing.assert_array_equal(np.asarray(upright_rgb(data)), expected)

    def test_of_4_bits(self):
        values = RAMP >> 4
        palette = tuple(map(int, np.concatenate([np.arange(16) * 17] * 3)))
        data = tiff(packed(values, 4), {256: 40, BITS: 4, PHOTOMETRIC: 3, 320: palette})
        np.testing.assert_array_equal(grey_of(data), values * 17)

    def test_a_black_palette_stays_black(self):
        assert not np.asarray(upright_rgb(tiff(RAMP, {PHOTOMETRIC: 3, 320: (0,) * 768}))).any()


class TestKindsThatAreNamed:
    @pytest.mark.parametrize("bits", [6, 10, 12, 14])
    def test_packed_white_is_zero(self, bits):
        data = tiff(packed(DEEP.astype(int) >> (16 - bits), bits), {256: 40, BITS: bits, PHOTOMETRIC: 0})
        assert f"1 channel of {bits} bits, white is zero;" in refusal_of(data)

    def test_big_endian(self):
        data = tiff(packed(DEEP.astype(int) >> 4, 12), {256: 40, BITS: 12, PHOTOMETRIC: 1}, order=">")
        assert "1 channel of 12 bits, big-endian;" in refusal_of(data)

    def test_other_meanings_of_the_values(self):
        data = tiff(packed(RAMP >> 7, 1), {256: 40, BITS: 1, PHOTOMETRIC: 4})
        assert "1 channel of 1 bit, PhotometricInterpretation 4;" in refusal_of(data)

    @pytest.mark.parametrize("order", ["<", ">"])
    def test_a_directory_of_zeros_is_damage(self, order):
        data = tiff(RAMP, {PHOTOMETRIC: BLACK_IS_ZERO}, order=order)
        assert refusal_of(data[: 8 + RAMP.size] + bytes(len(data) - 8 - RAMP.size)).startswith(
            "damaged image"
        )

    @pytest.mark.parametrize("cut", [4, 8, 8 + RAMP.size, 8 + RAMP.size + 30])
    def test_a_cut_directory_is_damage(self, cut):
        assert refusal_of(tiff(RAMP, {PHOTOMETRIC: BLACK_IS_ZERO})[:cut]).startswith("damaged image")
