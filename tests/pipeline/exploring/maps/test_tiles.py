"""Thumbnails of any images take a bounded number of bytes in all."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from frostline.features.images.thumbnails import Pictures
from frostline.pipeline.exploring.maps import tiles as module
from frostline.pipeline.exploring.maps.tiles import BUDGET, encode_tile, tile_side, tiles


def noise(seed, side=160):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8))


def opened(data):
    return Image.open(io.BytesIO(data))


def test_tiles_shrink_as_their_number_grows():
    sides = [tile_side(count) for count in (1, 100, 2000, 5000, 20_000, 100_000)]
    assert sides == sorted(sides, reverse=True)
    assert sides[0] == 160
    assert sides[4] == 48
    assert all(count * tile_side(count) ** 2 * 0.28 <= BUDGET for count in (1, 999, 5000, 20_000))


@pytest.mark.parametrize("most", [20_000, 3000, 600, 150, 60])
def test_a_tile_never_exceeds_its_share(most):
    data = encode_tile(noise(0), most)
    assert len(data) <= most
    assert opened(data).format == "WEBP"


def test_a_tile_that_has_room_keeps_size_and_look():
    picture = Image.linear_gradient("L").resize((80, 60)).convert("RGB")
    found = opened(encode_tile(picture, 5000)).convert("RGB")
    assert found.size == (80, 60)
    assert np.abs(np.asarray(found, int) - np.asarray(picture, int)).mean() < 6


def test_all_tiles_fit_into_the_budget_in_order(monkeypatch):
    monkeypatch.setattr(module, "BUDGET", 40_000)

    def read(name):
        if name == "7":
            raise FileNotFoundError(name)
        buffer = io.BytesIO()
        shade = Image.new("RGB", (160, 160), (int(name), 0, 0))
        (shade if int(name) % 2 else noise(int(name))).save(buffer, "PNG")
        return b"broken" if name == "9" else buffer.getvalue()

    class Names:
        ids = np.array([str(number) for number in range(60)])

    done = []
    rows = np.arange(60)[::-1]
    found = tiles(Pictures(Names, read), rows, workers=2, advance=done.append)
    assert sum(done) == 60
    assert [row for row, each in zip(rows.tolist(), found, strict=True) if not each] == [9, 7]
    data = [base64.b64decode(each) for each in found]
    assert sum(map(len, data)) <= 40_000
    for row, each in zip(rows.tolist(), data, strict=True):
        if each and row % 2:
            assert abs(np.asarray(opened(each).convert("RGB"))[..., 0].mean() - row) < 8
