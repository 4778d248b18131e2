"""Side columns in the cache file: kept, checksummed, changed without computing, and absent from files without them."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

from frostline.features.cache import FeatureCache, merge_parts
from frostline.features.cache.file.part import Part
from frostline.features.columns import Column
from frostline.features.errors import CacheFormatError, ChecksumError
from tests.features.cache.synthetic import SPEC, extract, images, labelled

ROWS = 700


def with_columns(rows, *, older=0):
    source = labelled(images(rows))
    ages = np.arange(rows, dtype=np.float64) + older
    ages[3] = np.nan
    texts = np.array([f"ü{row % 3}".encode() if row % 5 else b"" for row in range(rows)])
    source.table = replace(source.table, columns=(Column("age", ages), Column("a/b.c", texts)))
    return source


def version(path):
    with h5py.File(path) as file:
        return int(file.attrs["format_version"])


def test_columns_are_kept_by_name(tmp_path):
    source = with_columns(ROWS)
    cache, _ = extract(tmp_path / "c.h5", SPEC, source)
    assert list(cache.columns) == ["age", "a/b.c"]
    np.testing.assert_array_equal(cache.columns["age"], source.table.columns[0].values)
    assert cache.columns["a/b.c"].tolist()[:3] == ["", "ü1", "ü2"]
    assert cache.info().columns == {"age": "number", "a/b.c": "text"}
    assert cache.verify().ok
    assert version(cache.path) == 3


def test_a_cache_without_columns_is_of_the_version_that_earlier_readers_know(tmp_path):
    cache, _ = extract(tmp_path / "c.h5", SPEC, labelled(images(10)))
    assert version(cache.path) == 2
    assert cache.columns == {}


def test_changed_columns_replace_the_table_and_compute_nothing(tmp_path):
    extract(tmp_path / "c.h5", SPEC, labelled(images(ROWS)))
    for older in (0, 1):
        cache, computed = extract(tmp_path / "c.h5", SPEC, with_columns(ROWS, older=older))
        assert computed == 0
        assert cache.columns["age"][0] == older
    cache, computed = extract(tmp_path / "c.h5", SPEC, labelled(images(ROWS)))
    assert (computed, cache.columns) == (0, {})


def test_merged_parts_equal_the_whole(tmp_path):
    source = with_columns(ROWS)
    whole, _ = extract(tmp_path / "whole.h5", SPEC, source)
    parts = [extract(tmp_path / "c.h5", SPEC, source, part=Part(number, 2))[0].path for number in (1, 2)]
    merged = merge_parts(parts)
    for name, values in whole.columns.items():
        np.testing.assert_array_equal(merged.columns[name], values)
    assert merged.file.layout.table_digest == whole.file.layout.table_digest


def test_a_changed_value_is_found(tmp_path):
    path = extract(tmp_path / "c.h5", SPEC, with_columns(ROWS))[0].path
    with h5py.File(path, "r+") as file:
        file["columns/0"][5] = 99
    with pytest.raises(ChecksumError, match="side columns are damaged"):
        FeatureCache.open(path)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda file: file.__delitem__("columns/1"), "missing entries"),
        (lambda file: file["columns"].__setitem__("2", np.zeros(ROWS)), "unexpected entries"),
        (lambda file: file.__delitem__("column_names"), "missing entries"),
        (lambda file: _replace(file, "columns/0", np.zeros(ROWS, np.int64)), "expected|type"),
        (lambda file: _replace(file, "columns/0", np.zeros(ROWS - 1)), "shape"),
        (lambda file: _replace(file, "columns", np.zeros(3)), "not a group"),
        (lambda file: file.attrs.__setitem__("format_version", np.int64(2)), "unexpected entries"),
    ],
)
def test_a_file_of_another_structure_is_refused(tmp_path, change, problem):
    path = extract(tmp_path / "c.h5", SPEC, with_columns(ROWS))[0].path
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(CacheFormatError, match=problem):
        FeatureCache.open(path)


def _replace(file, name, values):
    del file[name]
    file[name] = values
