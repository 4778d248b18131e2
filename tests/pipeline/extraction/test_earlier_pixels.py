"""Caches of versions that decoded some files to other pixels: the next extract computes those files again."""

import os

import numpy as np
import pytest

from frostline.features.cache import FeatureCache
from frostline.features.cache.writing import creation
from frostline.features.images import exact
from frostline.features.images.decoders import DecoderKind
from frostline.features.images.decoding import DecodeError, upright_rgb
from frostline.pipeline import extract
from frostline.testing.images import encode, photo
from tests.helpers.images import tiff

BACKBONE = {"backbone": "timm:test_resnet", "weights": "random", "engine": "eager", "precision": "fp32"}
BACKBONE |= {"device": "cpu", "max_bad": 1}
GREY = np.asarray(photo(40, 30).convert("L"))
DEEP = GREY.astype(np.uint16) * 257
FILES = {
    "plain.png": encode(photo(40, 30)),
    "deep.tif": tiff(DEEP, {262: 1}),
    "white-is-zero.tif": tiff(65535 - DEEP, {262: 0}),
    "twelve-bits.tif": tiff(DEEP >> 4, {262: 1, 281: 4095}),
    "torn.bmp": encode(photo(140, 130), "BMP")[:20_000].ljust(len(encode(photo(140, 130), "BMP")), b"\0"),
    "text.png": encode(photo(30, 40)),
}


def earlier(data):
    """Decode as an earlier version: every doubtful file is black, and one kind of metadata costs the picture."""
    if data == FILES["text.png"]:
        raise DecodeError("damaged image: text")
    if data in {FILES["white-is-zero.tif"], FILES["twelve-bits.tif"], FILES["torn.bmp"]}:
        return photo(8, 8)
    return upright_rgb(data)


@pytest.fixture
def old_cache(tmp_path, monkeypatch):
    """A cache of an earlier version, of which only the bytes of the files are known."""
    folder = tmp_path / "images"
    for name, data in FILES.items():
        (folder / "a").mkdir(parents=True, exist_ok=True)
        (folder / "a" / name).write_bytes(data)
        os.utime(folder / "a" / name, (1e9, 1e9))
    with monkeypatch.context() as patched:
        patched.setattr(creation, "FILE_VERSION", 2)  # a file without side columns has the version before
        patched.setattr(exact, "EXACT", DecoderKind(earlier, exact.EXACT.resize, exact.EXACT.label))
        made = extract(folder, cache=tmp_path / "c.h5", **BACKBONE)
    for name in FILES:
        os.utime(folder / "a" / name, (1.1e9, 1.1e9))
    return folder, made.cache


def test_only_files_in_doubt_and_failed_ones_are_computed_again(old_cache, tmp_path):
    folder, path = old_cache
    again = extract(folder, cache=path, **BACKBONE)
    assert (again.computed, again.copied) == (4, 2)
    assert set(again.errors) == {"a/torn.bmp"}
    fresh = extract(folder, cache=tmp_path / "fresh.h5", **BACKBONE)
    np.testing.assert_array_equal(
        FeatureCache.open(path).features("embedding"), FeatureCache.open(fresh.cache).features("embedding")
    )
    assert extract(folder, cache=path, **BACKBONE).unchanged
    for name in FILES:
        os.utime(folder / "a" / name, (1.2e9, 1.2e9))
    touched = extract(folder, cache=path, **BACKBONE)
    assert (touched.computed, touched.copied) == (1, 5)  # the torn one is tried again
