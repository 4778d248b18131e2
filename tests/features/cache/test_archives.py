"""Files that earlier versions wrote still open, with the values that they were written with.

`tests/data/archives/vN/*.h5` are caches of format version N as the version of their time wrote them, each of 5 images,
one of which failed, with its features beside it in a `.npz` of float32. They are never written again.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from frostline.features.cache import FeatureCache, open_writer
from frostline.features.errors import CacheFormatError, ChecksumError
from frostline.features.table import ImageSource
from tests.helpers.paths import DATA


class Listed(ImageSource):
    """The images of an archive as they were listed when it was written, which can't be read any more."""

    def __init__(self, path):
        cache, values = FeatureCache.open(path), np.load(path.with_suffix(".npz"))
        self.root = cache.source
        self.table = replace(cache.table, stamps=values["stat"].astype("<i8").view(np.uint8))

    def read(self, row):
        raise AssertionError(f"row {row} of unchanged images is read")


ARCHIVES = sorted((DATA / "archives").glob("v*/*.h5"))


def test_every_version_has_archives():
    assert {path.parent.name for path in ARCHIVES} == {"v1", "v2"}


@pytest.mark.parametrize("path", ARCHIVES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_archive_opens_with_its_values(path):
    cache, values = FeatureCache.open(path), np.load(path.with_suffix(".npz"))
    assert cache.verify().ok
    assert cache.ids.tolist() == values["ids"].tolist()
    assert cache.classes == tuple(values["classes"].tolist())
    for name in ("labels", "split", "content", "ok"):
        np.testing.assert_array_equal(getattr(cache, name), values[name])
    np.testing.assert_array_equal(cache.stamps, values["stat"].view(np.uint8))
    assert cache.groups.tolist() == values["groups"].tolist()
    assert cache.errors == {2: "not an image"}
    assert cache.key == str(values["key"])
    assert [layer.key for layer in cache.layers] == ["embedding", "blocks.4:avg"]
    for layer in cache.layers:
        for view in range(cache.spec.views):
            stored = cache.features(layer.key, view=view)
            np.testing.assert_array_equal(stored.astype(np.float32), values[layer.key][:, view])


@pytest.mark.parametrize("path", ARCHIVES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_archive_of_unchanged_images_is_complete_without_reading_one(path):
    opened = open_writer(path, FeatureCache.open(path).spec, Listed(path))
    assert isinstance(opened, FeatureCache)


@pytest.mark.parametrize("path", ARCHIVES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_archive_is_not_complete_once_a_file_has_another_time(path, tmp_path):
    copy, images = Path(shutil.copy(path, tmp_path)), Listed(path)
    images.read = lambda row: (b"another image", images.table.stamps[row].tobytes())
    images.table.stamps.view("<i8")[3, 1] += 1
    with open_writer(copy, FeatureCache.open(path).spec, images) as writer:
        assert (writer.copied, writer.todo.tolist()) == (4, [3])


def test_one_flipped_bit_of_the_header_is_noticed_or_without_meaning(tmp_path):
    """Of a header as Frostline writes it, whose parts have checksums of HDF5."""
    original = DATA / "archives" / "v2" / "float32.h5"
    data = original.read_bytes()
    known = FeatureCache.open(original)
    expected = replace(known.info(), path=tmp_path)
    is_header = np.ones(len(data), bool)
    for extent in known.file.layout.extents.values():
        is_header[extent.offset : extent.offset + extent.nbytes] = False
    refused = 0
    for position in np.flatnonzero(is_header)[::61].tolist():
        path = tmp_path / "c.h5"
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        try:
            found = FeatureCache.open(path)
        except CacheFormatError:
            refused += 1
            continue
        assert replace(found.info(), path=tmp_path) == expected, position
        assert found.verify().ok
    assert refused > 50


def test_one_flipped_bit_of_the_data_is_noticed(tmp_path):
    original = DATA / "archives" / "v2" / "float32.h5"
    data = original.read_bytes()
    path = tmp_path / "c.h5"
    for name, extent in FeatureCache.open(original).file.layout.extents.items():
        position = extent.offset + extent.nbytes // 2
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        try:
            assert not FeatureCache.open(path).verify().ok, name
        except (CacheFormatError, ChecksumError):
            continue
