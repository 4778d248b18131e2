"""Zeros in JPEGs of every structure: what is lost is noticed, and sound files are read however flat they are."""

import itertools

import numpy as np
import pytest
from PIL import Image, ImageDraw

from frostline.features.images.decoding import DecodeError, upright_rgb
from frostline.testing.images import encode, photo
from tests.helpers.images import is_refused

KINDS = {
    "plain": {},
    "optimised": {"optimize": True, "quality": 30},
    "progressive": {"progressive": True},
    "low": {"progressive": True, "quality": 10},
    "high": {"progressive": True, "quality": 100},
    "no subsampling": {"progressive": True, "quality": 50, "subsampling": 0},
    "restarts": {"restart_marker_rows": 1},
    "often": {"restart_marker_blocks": 3, "optimize": True},
    "both": {"progressive": True, "restart_marker_rows": 2, "quality": 40},
}


def accepted_holes(image, kind, length, count=40):
    """Positions of holes that change the picture by more than a shade and are not noticed, of some positions."""
    data = encode(image, "JPEG", **KINDS[kind])
    whole = np.asarray(upright_rgb(data)).astype(int)
    start = data.index(b"\xff\xc4")
    found = []
    for position in range(start, len(data) - length - 2, max(1, (len(data) - length - start) // count)):
        hole = data[:position] + bytes(length) + data[position + length :]
        try:
            pixels = np.asarray(upright_rgb(hole)).astype(int)
        except DecodeError:
            continue
        if np.abs(pixels - whole).max() > 8:
            found.append(position)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("size", "length"), [((317, 241), 512), ((317, 241), 4096), ((100, 80), 300)])
def test_hole_is_noticed_wherever_it_lies(kind, size, length):
    assert accepted_holes(photo(*size, seed=2), kind, length) == []


def test_hole_in_bits_of_the_colours_of_blocks_is_noticed():
    image = photo(40, 30, seed=7).resize((640, 480), Image.Resampling.LANCZOS)
    assert accepted_holes(image, "low", 512, 60) == []


def test_lost_restart_markers_are_noticed_and_said():
    data = encode(photo(500, 375, seed=5), "JPEG", restart_marker_rows=1)
    start = data.index(b"\xff\xd2")
    with pytest.raises(DecodeError, match="restart markers are missing"):
        upright_rgb(data[:start] + bytes(4096) + data[start + 4096 :])


def test_eight_lost_restart_markers_are_noticed():
    data = encode(photo(317, 241, seed=5), "JPEG", restart_marker_blocks=2)
    first, second = (position for position in itertools.islice(positions(data, b"\xff\xd3"), 2))
    assert is_refused(data[:first] + bytes(second - first) + data[second:])


def positions(data, marker):
    at = data.find(marker)
    while at >= 0:
        yield at
        at = data.find(marker, at + 1)


def test_lost_scans_are_noticed_and_said():
    data = encode(photo(317, 241), "JPEG", progressive=True)
    scans = list(positions(data, b"\xff\xda"))
    start = scans[3] - 300
    with pytest.raises(DecodeError, match=r"missing|are zeros"):
        upright_rgb(data[:start] + bytes(600) + data[start + 600 :])


def flat(width, height):
    return Image.new("RGB", (width, height), (7, 77, 177))


def page(width, height):
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for line in range(height // 30):
        draw.text((20, 20 + 14 * line), f"line {line} of some text", fill="black")
    return image


def stripes(width, height):
    values = np.zeros((height, width), np.uint8)
    values[:, ::8] = 255
    return Image.fromarray(values).convert("RGB")


def dots(width, height):
    values = np.full((height, width), 255, np.uint8)
    values[::8, ::8] = 0
    return Image.fromarray(values).convert("RGB")


def half(width, height):
    image = Image.new("RGB", (width, height), "white")
    image.paste(photo(width, height // 3, seed=1), (0, 0))
    return image


def twice(width, height):
    """A photo that was a JPEG before."""
    return upright_rgb(encode(photo(width, height, seed=2), "JPEG", quality=50))


@pytest.mark.parametrize("make", [flat, page, stripes, dots, half, twice])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_sound_file_is_read(make, kind, mode):
    assert not is_refused(encode(make(500, 375).convert(mode), "JPEG", **KINDS[kind]))


@pytest.mark.parametrize("make", [flat, page, half])
@pytest.mark.parametrize("kind", ["optimised", "progressive", "high"])
def test_large_sound_file_that_holds_zeros_is_read(make, kind):
    data = encode(make(1801, 1203), "JPEG", **KINDS[kind])
    assert bytes(256) in data
    assert not is_refused(data)


@pytest.mark.parametrize("kind", ["plain", "progressive"])
def test_zeros_in_metadata_and_fill_bytes_are_no_damage(kind):
    data = encode(photo(60, 40), "JPEG", comment=bytes(3000), **KINDS[kind])
    scan = data.index(b"\xff\xda")
    assert not is_refused(data[:scan] + b"\xff\xff\xff" + data[scan:] + bytes(3000))
