"""Files that were cut or filled with zeros: an error in every format, and never a picture that is grey in part."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image, ImageDraw
from PIL import features as pillow_features

from frostline.features.images.decoding import DecodeError, upright_rgb
from frostline.testing.images import encode, photo
from tests.helpers.images import is_refused, png_chunks, png_of, tiff

BIG = photo(317, 241, seed=3)
SAVED = {
    "jpeg": ("JPEG", {"quality": 90}),
    "jpeg-optimised": ("JPEG", {"quality": 90, "optimize": True}),
    "jpeg-progressive": ("JPEG", {"quality": 90, "progressive": True}),
    "jpeg-restarts": ("JPEG", {"quality": 90, "restart_marker_rows": 2}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {"quality": 90}),
    "webp-lossless": ("WEBP", {"lossless": True}),
    "gif": ("GIF", {}),
    "bmp": ("BMP", {}),
    "ppm": ("PPM", {}),
    "tiff": ("TIFF", {"compression": "tiff_lzw"}),
    "jpeg2000": ("JPEG2000", {}),
    "avif": ("AVIF", {}),
    "mpo": ("MPO", {"save_all": True, "append_images": [photo(317, 241, seed=4)], "quality": 90}),
}


def saved(name, image=BIG):
    kind, options = SAVED[name]
    if kind == "AVIF" and not pillow_features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    return encode(image, kind, **options)


def zeroed(data, start, stop=None):
    stop = len(data) if stop is None else stop
    return data[:start] + bytes(stop - start) + data[stop:]


@pytest.mark.parametrize("name", SAVED)
def test_whole_file_is_read(name):
    np.testing.assert_array_equal(
        np.asarray(upright_rgb(saved(name))), np.asarray(Image.open(io.BytesIO(saved(name))).convert("RGB"))
    )


@pytest.mark.parametrize("share", [0.25, 0.4, 0.471])
@pytest.mark.parametrize("name", SAVED)
def test_cut_file_is_refused(name, share):
    data = saved(name)
    assert is_refused(data[: int(share * len(data))])


@pytest.mark.parametrize("share", [0.25, 0.4, 0.471])
@pytest.mark.parametrize("name", SAVED)
def test_file_whose_rest_is_zeros_is_refused(name, share):
    data = saved(name)
    assert is_refused(zeroed(data, int(share * len(data))))


@pytest.mark.parametrize(
    "name",
    [name for name in SAVED if name.startswith(("jpeg", "mpo", "webp", "avif")) and name != "jpeg2000"],
)
def test_hole_in_the_pixels_is_refused(name):
    data = saved(name)
    end = data.find(b"\xff\xd9", len(data) // 8) if name == "mpo" else len(data)
    middle = end // 2
    assert is_refused(zeroed(data, middle, middle + 4096))
    assert is_refused(zeroed(data, middle, end - 2))


@pytest.mark.parametrize("name", ["webp", "webp-lossless", "avif"])
@pytest.mark.parametrize("count", [250, 200])
def test_few_zeros_at_the_end_are_refused(name, count):
    data = saved(name)
    assert not is_refused(data)
    assert is_refused(zeroed(data, len(data) - count))


@pytest.mark.parametrize("image", [BIG, photo(32, 32, seed=1)])
def test_hole_in_a_gif_is_refused(image):
    data = saved("gif", image)
    for position in range(790, len(data) - 300, len(data) // 40):
        assert is_refused(zeroed(data, position, position + 300))


def test_damage_to_a_later_picture_of_a_gif_does_not_matter():
    frames = [photo(60, 40, seed=seed) for seed in (1, 2, 3)]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    middle = len(data) // 2
    assert not is_refused(zeroed(data, middle, middle + 300))


TIFFS = {
    "deflate": {"compression": "tiff_adobe_deflate"},
    "old deflate": {"compression": "tiff_deflate"},
    "lzw": {"compression": "tiff_lzw"},
    "packbits": {"compression": "packbits"},
    "jpeg": {"compression": "jpeg", "quality": 75},
}


@pytest.mark.parametrize("rows", [64, 241])
@pytest.mark.parametrize("name", TIFFS)
@pytest.mark.parametrize("length", [300, 4096])
def test_hole_in_a_compressed_tiff_is_refused(name, length, rows):
    data = encode(BIG, "TIFF", tiffinfo={278: rows}, **TIFFS[name])
    with Image.open(io.BytesIO(data)) as image:
        start, stop = image.tag_v2[273][0], image.tag_v2[273][-1] + image.tag_v2[279][-1]
    assert not is_refused(data)
    for position in range(start, stop - length, (stop - start) // 23):
        assert is_refused(zeroed(data, position, position + length))


@pytest.mark.parametrize("count", [200, 60, 20])
def test_zeros_over_the_tables_of_a_tiff_are_refused(count):
    data = encode(photo(32, 32), "TIFF", **TIFFS["jpeg"])
    assert is_refused(zeroed(data, len(data) - count))


def test_uncompressed_tiff_is_refused():
    data = tiff(np.asarray(BIG), {262: 2})
    assert not is_refused(data)
    stop = 8 + BIG.width * BIG.height * 3
    assert is_refused(zeroed(data, stop // 2, stop))


def page(width, height):
    """Text on a wide white ground, of which an optimised JPEG is zeros for the most part."""
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for line in range(12):
        draw.text((20, 20 + 14 * line), f"line {line} of some text", fill="black")
    return image


@pytest.mark.parametrize("size", [(700, 900), (1801, 1203)])
@pytest.mark.parametrize(
    "make", [page, lambda *size: Image.new("RGB", size), lambda *size: Image.new("L", size, 255)]
)
@pytest.mark.parametrize("name", [name for name in SAVED if name != "mpo"])
def test_flat_image_is_no_damage(make, size, name):
    assert not is_refused(saved(name, make(*size)))


@pytest.mark.parametrize("name", ["jpeg-optimised", "webp"])
def test_hole_in_a_flat_image_is_refused(name):
    image = page(1801, 1203)
    image.paste(BIG, (700, 40))
    data = saved(name, image)
    assert not is_refused(data)
    middle = data.find(b"\xff\xda") + 6000
    assert is_refused(zeroed(data, middle, middle + 2048))


def disc(width, height):
    image = Image.new("RGB", (width, height))
    across, down = np.meshgrid(np.arange(width) - width // 2, np.arange(height) - height // 3)
    inside = (across**2 + down**2 < (height // 4) ** 2)[..., None]
    return Image.fromarray(np.where(inside, np.asarray(photo(width, height)), np.asarray(image)))


def letterbox(width, height):
    image = Image.new("RGB", (width, height))
    image.paste(photo(width, height // 2), (0, height // 4))
    return image


def turned(width, height):
    return photo(width, height).rotate(7, expand=True)


def mask(width, height):
    steps = np.arange(width * height).reshape(height, width) < width * height // 2 + 37
    return Image.fromarray((steps * 255).astype(np.uint8))


@pytest.mark.parametrize("make", [disc, letterbox, turned, mask, page])
@pytest.mark.parametrize("name", ["bmp", "ppm"])
def test_black_ground_is_no_damage(make, name):
    assert not is_refused(saved(name, make(300, 200)))


@pytest.mark.parametrize(
    ("name", "mode"),
    [*itertools.product(TIFFS, ["RGB", "L"]), *((name, "1") for name in TIFFS if name != "jpeg")],
)
@pytest.mark.parametrize(
    "make", [lambda *size: Image.new("RGB", size), lambda *size: Image.new("RGB", size, "white"), disc, page]
)
@pytest.mark.parametrize("size", [(700, 900), (1, 3000), (8, 3000)])
def test_flat_compressed_tiff_is_no_damage(make, size, name, mode):
    image = make(*size).convert(mode)
    assert not is_refused(encode(image, "TIFF", tiffinfo={278: size[1]}, **TIFFS[name]))


def test_second_picture_of_a_file_need_not_be_whole():
    data = saved("mpo")
    assert not is_refused(data[: int(0.9 * len(data))])


def test_bytes_behind_the_picture_do_not_matter():
    assert not is_refused(saved("jpeg") + bytes(4096) + b"trailer")


class TestMetadata:
    PIXELS = np.asarray(photo(40, 30))

    def read(self, data):
        np.testing.assert_array_equal(np.asarray(upright_rgb(data)), self.PIXELS)

    @pytest.mark.parametrize(
        "chunk",
        [
            (b"tEXt", b"Comment\0hello", b"\0\0\0\0"),
            (b"iTXt", b"broken"),
            (b"iTXt", b"Comment\0\1\0\0\0junk", b"abcd"),
            (b"zTXt", b"Comment\0\7junk"),
            (b"zTXt", b"Comment\0\0" + b"junk", b"\1\2\3\4"),
            (b"iCCP", b"profile\0\0junk", b"\0\0\0\0"),
            (b"iCCP", b"profile\0\5junk"),
            (b"pHYs", b"\0"),
            (b"eXIf", b"junk", b"\0\0\0\0"),
        ],
        ids=str,
    )
    def test_damaged_chunk_of_a_png_does_not_cost_the_picture(self, chunk):
        header, *rest = png_chunks(encode(photo(40, 30)))
        self.read(png_of([header, chunk, *rest]))

    def test_orientation_survives_a_damaged_text(self):
        exif = Image.Exif()
        exif[0x0112] = 3
        header, *rest = png_chunks(encode(photo(40, 30).transpose(Image.Transpose.ROTATE_180), exif=exif))
        self.read(png_of([header, (b"tEXt", b"Comment\0hello", b"\0\0\0\0"), *rest]))

    def test_damaged_pixels_of_a_png_are_refused_with_any_text(self):
        header, (kind, pixels), *rest = png_chunks(encode(photo(40, 30)))
        damaged = pixels[:50] + b"\0\0\0\0" + pixels[54:]
        assert is_refused(png_of([header, (b"tEXt", b"a\0b", b"\0\0\0\0"), (kind, damaged, b"abcd"), *rest]))

    def test_webp_cut_in_its_metadata_is_read(self):
        data = encode(photo(40, 30), "WEBP", lossless=True, xmp=b"x" * 500)
        self.read(data[:-200])

    @pytest.mark.parametrize(
        "junk", [b"\xff\xe1\0\2", b"\xff\xe2\0\x10MPF\0junkjunkju", b"\xff\xed\0\x08Photos"]
    )
    def test_damaged_segment_of_a_jpeg_does_not_cost_the_picture(self, junk):
        data = encode(photo(40, 30), "JPEG")
        whole = np.asarray(Image.open(io.BytesIO(data)))
        np.testing.assert_array_equal(np.asarray(upright_rgb(data[:2] + junk + data[2:])), whole)


@pytest.mark.parametrize(("height", "lines"), [(10, 5), (11, 10), (11_000_000, 10)])
def test_a_tiff_whose_strips_leave_out_lines_is_damaged(height, lines):
    samples = np.arange(10 * 12, dtype=np.uint16).reshape(10, 12)
    data = tiff(samples, {257: height, 262: 1, 278: lines})
    with pytest.raises(DecodeError, match=rf"its strips hold \d+ of {height * 12} pixels"):
        upright_rgb(data)


@pytest.mark.parametrize("lines", [10, 11, 2**31 - 1])
def test_a_tiff_whose_strip_has_room_for_more_lines_is_whole(lines):
    samples = np.arange(10 * 12, dtype=np.uint8).reshape(10, 12)
    assert upright_rgb(tiff(samples, {262: 1, 278: lines})).size == (12, 10)
