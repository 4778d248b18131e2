"""Which files are decoded again because an earlier version may have seen other pixels in them."""

import numpy as np
import pytest
from PIL import Image

from frostline.features.images.files.earlier_pixels import may_differ_from_earlier
from frostline.testing.images import encode, photo
from tests.helpers.images import png_chunks, png_of, tiff

GREY = np.asarray(photo(40, 30).convert("L"))
DEEP = GREY.astype(np.uint16) * 257
PNG, GIF = encode(photo(40, 30)), encode(photo(40, 30), "GIF")
HEADER, *REST = png_chunks(encode(Image.fromarray(DEEP)))


@pytest.mark.parametrize(
    "data",
    [
        tiff(DEEP, {262: 0}),
        tiff(DEEP >> 4, {262: 1, 281: 4095}),
        tiff(GREY.astype(np.uint16), {262: 1, 281: 255}),
        tiff(DEEP >> 6, {262: 1, 281: 1000}),
        tiff(GREY, {262: 3, 320: (*range(256),) * 3}),
        tiff(GREY, {}),
        tiff(GREY, {262: 1, 339: 2}),
        tiff(np.repeat((DEEP >> 4)[..., None], 3, axis=2), {262: 2, 281: 4095}),
        png_of([HEADER, (b"sBIT", b"\x0c"), *REST]),
        encode(photo(40, 30), "JPEG")[:500] + bytes(4000) + b"\xff\xd9",
        encode(Image.new("RGB", (40, 30)), "BMP"),
        PNG[: len(PNG) // 2] + bytes(len(PNG) - len(PNG) // 2),
        PNG[:-200] + bytes(100) + PNG[-100:],
        GIF[:900] + bytes(300) + GIF[1200:],
        encode(photo(40, 30), "WEBP")[:-60] + bytes(60),
    ],
    ids=range(15),
)
def test_files_in_doubt(data):
    assert may_differ_from_earlier(data)


@pytest.mark.parametrize(
    "data",
    [
        tiff(DEEP, {262: 1}),
        tiff(GREY, {262: 0}),
        tiff(GREY, {262: 1, 281: 255}),
        tiff(DEEP, {262: 1, 281: 40_000}),
        tiff(GREY, {262: 3, 320: (*range(0, 65536, 257),) * 3}),
        encode(Image.fromarray(DEEP)),
        encode(photo(40, 30), "TIFF", compression="tiff_lzw"),
        encode(photo(40, 30), "JPEG"),
        encode(photo(40, 30), "BMP"),
        PNG,
        GIF,
        encode(Image.new("RGB", (2000, 1500))),
        b"",
        b"no image",
    ],
    ids=range(14),
)
def test_other_files(data):
    assert not may_differ_from_earlier(data)


def test_damaged_tiff_is_in_doubt():
    assert may_differ_from_earlier(tiff(GREY, {262: 1})[:20])
