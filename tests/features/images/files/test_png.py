"""Checksums of PNGs: damaged pixels are refused wherever they lie, and damaged texts cost nothing."""

import numpy as np
import pytest
from PIL import Image

from frostline.features.images.decoding import DecodeError, upright_rgb
from frostline.testing.images import encode, photo
from tests.helpers.images import png_chunks, png_of

SMALL = photo(32, 32, seed=1)
CASES = {
    "colour": (SMALL, {}),
    "uncompressed": (SMALL, {"compress_level": 0}),
    "palette": (SMALL.convert("P"), {}),
    "grey": (SMALL.convert("L"), {}),
    "animated": (
        SMALL,
        {"save_all": True, "append_images": [photo(32, 32, seed=2), photo(32, 32, seed=3)]},
    ),
}


def reason(data):
    with pytest.raises(DecodeError) as refused:
        upright_rgb(data)
    return str(refused.value)


def pixels_at(data):
    """Start and end of the compressed pixels in the first chunk that holds some."""
    start = data.index(b"IDAT") + 4
    return start, start + int.from_bytes(data[start - 8 : start - 4])


@pytest.mark.parametrize("name", CASES)
class TestPixels:
    def test_zeros_from_any_byte_on_are_refused(self, name):
        image, options = CASES[name]
        data = encode(image, **options)
        start, stop = pixels_at(data)
        for position in range(start, stop - 8, (stop - start) // 23):
            assert reason(data[:position] + bytes(len(data) - position)).startswith("damaged image: ")

    def test_zeros_in_the_middle_are_refused(self, name):
        image, options = CASES[name]
        data = encode(image, **options)
        start, stop = pixels_at(data)
        for position in range(start, stop - 64, (stop - start) // 17):
            assert "damaged image" in reason(data[:position] + bytes(64) + data[position + 64 :])

    def test_any_changed_byte_is_refused(self, name):
        image, options = CASES[name]
        data = encode(image, **options)
        start, stop = pixels_at(data)
        for position in range(start + 2, stop + 4, (stop - start) // 29):
            changed = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
            assert "damaged image" in reason(changed)

    def test_without_its_end_it_is_cut(self, name):
        image, options = CASES[name]
        data = encode(image, **options)
        assert "truncated PNG (no end marker)" in reason(data[:-12])
        assert "truncated PNG (no end marker)" in reason(data[:-12] + bytes(12))


def test_a_later_picture_of_an_animation_may_be_damaged():
    image, options = CASES["animated"]
    data = encode(image, **options)
    start = data.index(b"fdAT") + 200
    whole = np.asarray(upright_rgb(data))
    np.testing.assert_array_equal(
        np.asarray(upright_rgb(data[:start] + bytes(64) + data[start + 64 :])), whole
    )


@pytest.mark.parametrize("kind", [b"PLTE", b"IHDR"])
def test_a_damaged_header_or_palette_is_named(kind):
    data = encode(SMALL.convert("P"))
    at = data.index(kind) + 12
    text = reason(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    assert text.startswith("damaged image: ")
    assert kind.decode() in text


@pytest.mark.parametrize(
    "junk",
    [(b"tRNS", b"\1\2", b"\0\0\0\0"), (b"tEXt", b"a\0b", b"\0\0\0\0"), (b"iCCP", b"a\0\0junk", b"\0\0\0\0")],
    ids=["transparency", "text", "profile"],
)
@pytest.mark.parametrize("place", ["before", "behind"])
def test_what_the_pixels_do_not_depend_on_may_be_damaged(junk, place):
    *before, end = png_chunks(encode(SMALL))
    made = [before[0], junk, *before[1:], end] if place == "before" else [*before, junk, end]
    np.testing.assert_array_equal(np.asarray(upright_rgb(png_of(made))), np.asarray(SMALL))


@pytest.mark.parametrize("length", [0, 3, 4000, 2**31])
def test_the_length_of_a_text_behind_the_pixels_may_be_damaged(length):
    *before, end = png_chunks(encode(SMALL))
    data = png_of([*before, (b"tEXt", b"Comment\0hello"), end])
    at = data.index(b"tEXt") - 4
    data = data[:at] + length.to_bytes(4) + data[at + 4 :]
    np.testing.assert_array_equal(np.asarray(upright_rgb(data)), np.asarray(SMALL))


def test_pixels_may_lie_in_many_chunks():
    header, (kind, pixels), end = png_chunks(encode(SMALL))
    parts = [(kind, pixels[at : at + 100]) for at in range(0, len(pixels), 100)]
    np.testing.assert_array_equal(
        np.asarray(upright_rgb(png_of([header, *parts, (kind, b""), end]))), np.asarray(SMALL)
    )
    wrong = [*parts[:-1], (*parts[-1], b"\0\0\0\0")]
    assert "chunk IDAT at byte" in reason(png_of([header, *wrong, end]))


def test_a_large_flat_png_is_sound():
    assert upright_rgb(encode(Image.new("RGB", (1500, 1100)))).size == (1500, 1100)
