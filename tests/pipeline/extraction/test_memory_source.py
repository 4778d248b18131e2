"""A source without files is extracted, reused and resumed as folders are."""

import numpy as np
import pytest

from frostline.features.cache import CacheWriter, FeatureCache
from frostline.features.sources import limited
from frostline.pipeline import extract
from frostline.testing import encode, photo
from tests.helpers.sources import DigestSource

OPTIONS = {"backbone": "timm:test_resnet", "weights": "random", "engine": "eager", "precision": "fp32"}


def pictures(count):
    return {f"{'ab'[n % 2]}/{n:04d}.png": encode(photo(12, 10, seed=n)) for n in range(count)}


def test_extraction_equals_that_of_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = pictures(6)
    for id_, data in files.items():
        (tmp_path / "set" / id_).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / id_).write_bytes(data)
    done = extract(DigestSource(files), **OPTIONS)
    of_files = extract(tmp_path / "set", cache="files.h5", **OPTIONS)
    assert done.cache == tmp_path / "memory-set.timm-test_resnet.h5"
    assert (done.computed, done.failed) == (6, 0)
    memory, folder = FeatureCache.open(done.cache), FeatureCache.open(of_files.cache)
    assert memory.source == "memory:set"
    assert memory.ids.tolist() == folder.ids.tolist() == sorted(files)
    for name in ("labels", "content"):
        np.testing.assert_array_equal(getattr(memory, name), getattr(folder, name))
    np.testing.assert_array_equal(memory.features(), folder.features())
    np.testing.assert_array_equal(memory.stamps, DigestSource(files).table.stamps)


def test_an_unchanged_source_is_recognised_without_reading_an_image(tmp_path):
    files, cache = pictures(6), tmp_path / "c.h5"
    extract(DigestSource(files), cache=cache, **OPTIONS)
    again = DigestSource(files)
    assert extract(again, cache=cache, **OPTIONS).unchanged
    assert again.reads == 0


def test_changed_and_added_images_alone_are_computed_and_renamed_ones_are_copied(tmp_path):
    files, cache = pictures(6), tmp_path / "c.h5"
    extract(DigestSource(files), cache=cache, **OPTIONS)
    files["a/0002.png"] = encode(photo(12, 10, seed=77))
    files["b/new.png"] = encode(photo(12, 10, seed=78))
    files["b/renamed.png"] = files.pop("b/0001.png")
    done = extract(DigestSource(files), cache=cache, **OPTIONS)
    assert (done.computed, done.copied) == (2, 5)


def test_images_of_a_folder_are_copied_once_they_come_from_elsewhere(tmp_path):
    files = pictures(6)
    for id_, data in files.items():
        (tmp_path / "set" / id_).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / id_).write_bytes(data)
    extract(tmp_path / "set", cache=tmp_path / "c.h5", **OPTIONS)
    done = extract(DigestSource(files), cache=tmp_path / "c.h5", **OPTIONS)
    assert (done.computed, done.copied) == (0, 6)


def test_an_interrupted_extraction_is_resumed(tmp_path, monkeypatch):
    files, cache = pictures(300), tmp_path / "c.h5"
    put, puts = CacheWriter.put, []

    def interrupted(writer, rows, *args, **options):
        put(writer, rows, *args, **options)
        puts.extend(rows.tolist())
        if len(puts) >= 280:
            raise KeyboardInterrupt

    monkeypatch.setattr(CacheWriter, "put", interrupted)
    with pytest.raises(KeyboardInterrupt):
        extract(DigestSource(files), cache=cache, batch_size=8, **OPTIONS)
    monkeypatch.undo()
    assert not cache.exists()
    done = extract(DigestSource(files), cache=cache, batch_size=8, **OPTIONS)
    assert (done.resumed, done.computed) == (256, 44)
    fresh = extract(DigestSource(files), cache=tmp_path / "fresh.h5", batch_size=8, **OPTIONS)
    np.testing.assert_array_equal(
        FeatureCache.open(done.cache).features(), FeatureCache.open(fresh.cache).features()
    )


def test_a_limit_takes_evenly_spaced_images(tmp_path):
    source = DigestSource(pictures(9))
    done = extract(source, cache=tmp_path / "c.h5", limit=3, **OPTIONS)
    assert FeatureCache.open(done.cache).ids.tolist() == [source.table.ids[row].decode() for row in (0, 3, 6)]
    assert limited(source, 100) is source
