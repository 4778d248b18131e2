"""A row belongs to the bytes of an image, whatever its file is called, and wherever it lies."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from frostline.features.cache import FeatureCache
from frostline.features.errors import CacheMismatchError
from frostline.features.sources.files import FileSource
from frostline.pipeline import extract
from tests.helpers.listener import Listener
from tests.helpers.network import BACKBONE

pytestmark = pytest.mark.usefixtures("cpu")

LONG_AGO = 1_500_000_000_000_000_000
OPTIONS = {**BACKBONE, "engine": "eager", "precision": "fp32"}


def write_bitmap(path, shade):
    """Write an image whose size in bytes does not depend on its content, as unpacked from an archive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (shade, 255 - shade, 7)).save(path)
    os.utime(path, ns=(LONG_AGO, LONG_AGO))


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A folder of bitmaps of equal size and time, extracted long after they were written."""
    monkeypatch.setattr(FileSource, "unsettled", lambda source, _since: np.zeros(len(source.table), bool))
    for index in range(6):
        write_bitmap(tmp_path / "data" / "ab"[index % 2] / f"{index}.bmp", 20 * index)
    extract(tmp_path / "data", cache=tmp_path / "c.h5", **OPTIONS)
    return tmp_path / "data"


def assert_is_fresh(data, cache):
    """Compare the features of a cache with those of an extraction from scratch."""
    fresh = extract(data, cache=cache.with_name("fresh.h5"), **OPTIONS).cache
    one, other = FeatureCache.open(cache), FeatureCache.open(fresh)
    np.testing.assert_array_equal(one.ids, other.ids)
    np.testing.assert_array_equal(one.content, other.content)
    np.testing.assert_array_equal(one.features(), other.features())


def test_files_of_equal_size_and_time_that_change_places_keep_their_own_features(data, tmp_path):
    one, other, spare = data / "a" / "0.bmp", data / "b" / "1.bmp", tmp_path / "spare"
    one.rename(spare)
    other.rename(one)
    spare.rename(other)
    again = extract(data, cache=tmp_path / "c.h5", **OPTIONS)
    assert (again.computed, again.copied) == (0, 6)
    assert_is_fresh(data, again.cache)


def test_a_file_rewritten_in_place_with_its_time_kept_is_computed_again(data, tmp_path):
    write_bitmap(data / "a" / "0.bmp", 240)
    again = extract(data, cache=tmp_path / "c.h5", **OPTIONS)
    assert (again.computed, again.copied) == (1, 5)
    assert_is_fresh(data, again.cache)


def test_files_copied_elsewhere_are_read_once_and_not_computed_again(data, tmp_path):
    copy = shutil.copytree(data, tmp_path / "elsewhere" / "data")
    shutil.rmtree(data)
    moved = extract(copy, cache=tmp_path / "c.h5", **OPTIONS)
    assert (moved.computed, moved.copied) == (0, 6)
    assert extract(copy, cache=tmp_path / "c.h5", **OPTIONS).unchanged


def test_a_moved_data_set_is_reported_and_another_one_refused(data, tmp_path):
    shutil.copytree(data, tmp_path / "moved")
    shutil.rmtree(data)
    report = Listener()
    extract(tmp_path / "moved", cache=tmp_path / "c.h5", report=report, **OPTIONS)
    assert any(
        f"was extracted from {data}. {tmp_path / 'moved'} holds the same data set" in note
        for note in report.notes
    )
    for index in range(4):
        write_bitmap(tmp_path / "other" / "a" / f"{index}.bmp", 7 * index + 1)
    with pytest.raises(CacheMismatchError, match="another data set"):
        extract(tmp_path / "other", cache=tmp_path / "c.h5", **OPTIONS)
    report = Listener()
    extract(tmp_path / "other", cache=tmp_path / "c.h5", overwrite=True, report=report, **OPTIONS)
    assert not any("same data set" in note for note in report.notes)


def test_folders_of_one_name_do_not_share_a_cache_by_default(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(data, tmp_path / "one" / "photos")
    for index in range(4):
        write_bitmap(tmp_path / "two" / "photos" / "a" / f"{index}.bmp", 7 * index + 1)
    first = extract("one/photos", **OPTIONS)
    before = first.cache.read_bytes()
    with pytest.raises(CacheMismatchError, match=r"one/photos, of which .*two/photos has 0"):
        extract("two/photos", **OPTIONS)
    assert first.cache.read_bytes() == before


def test_a_cache_with_the_stamps_of_earlier_versions_is_verified_once(data, tmp_path, monkeypatch):
    """Their second number is the modification time itself."""
    path = tmp_path / "c.h5"
    cache = FeatureCache.open(path)
    files = [data / id_ for id_ in cache.ids]
    earlier = np.array([(file.stat().st_size, file.stat().st_mtime_ns) for file in files], "<i8")
    monkeypatch.setattr(
        "frostline.features.sources.files.stamps_of", lambda stats: earlier.view(np.uint8)[: len(stats)]
    )
    extract(data, cache=tmp_path / "old.h5", **OPTIONS)
    monkeypatch.undo()
    write_bitmap(files[0], 200)
    again = extract(data, cache=tmp_path / "old.h5", **OPTIONS)
    assert (again.computed, again.copied) == (1, 5)
    assert_is_fresh(data, again.cache)


@pytest.mark.parametrize("option", ["rehash", "overwrite"])
def test_rehash_and_overwrite_read_every_byte_whatever_the_system_tells_of_a_file(
    data, tmp_path, monkeypatch, option
):
    path = data / "a" / "0.bmp"
    size = path.stat().st_size
    monkeypatch.setattr(
        "frostline.features.sources.stats.stat_fields", lambda status: (status.st_size, 0, 0, 0)
    )
    monkeypatch.setattr(
        "frostline.features.sources.files.stat_fields", lambda status: (status.st_size, 0, 0, 0)
    )
    cache = tmp_path / f"{option}.h5"
    extract(data, cache=cache, **OPTIONS)
    write_bitmap(path, 240)
    assert path.stat().st_size == size
    assert extract(data, cache=cache, **OPTIONS).unchanged
    again = extract(data, cache=cache, **OPTIONS, **{option: True})
    assert (again.computed, again.copied) == (1, 5)
    assert_is_fresh(data, cache)
    assert extract(data, cache=cache, **OPTIONS, **{option: True}).unchanged
