"""Caches as tables of Arrow, pandas and Polars and as data sets of PyTorch, compared with their arrays."""

import json
import pickle
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from frostline.features.cache import FeatureCache, open_writer
from frostline.features.cache.arrow_rows import column_names
from frostline.features.cache.selection import Selection
from frostline.features.errors import ChecksumError, LayerError, LibraryError, RowsError
from frostline.features.spec import FeatureSpec
from frostline.splits import SPLITS
from tests.features.cache import synthetic
from tests.helpers.needs import needs_pandas, needs_polars, needs_pyarrow

BAD = ("class/000005.jpg", "class/000300.jpg")


def write(path, count=700, **changes):
    files = synthetic.images(count) | dict.fromkeys(BAD, b"bad")
    source = synthetic.labelled(dict(sorted(files.items())[:count]))
    source.table = replace(source.table, split=(np.arange(count) % 4).astype(np.uint8))
    specification = synthetic.spec(**changes)
    writer = open_writer(path, specification, source)
    with writer:
        features, known = synthetic.computed(specification, source, writer.todo)
        writer.put(writer.todo, features, **known)
        return writer.finish()


@pytest.fixture(params=["float32", "float16", "bfloat16"])
def cache(request, tmp_path):
    return write(tmp_path / "c.h5", dtype=request.param)


@pytest.fixture
def plain(tmp_path):
    return write(tmp_path / "c.h5")


def is_of_file(array, cache):
    """Whether an array is a view of the mapped file."""
    whole = np.frombuffer(cache.file._memory, np.uint8)
    return np.shares_memory(array, whole)


@needs_pyarrow
def test_arrow_table_holds_every_row_with_features(cache):
    table = cache.to_arrow()
    rows = np.flatnonzero(cache.ok)
    assert len(rows) == 698
    assert table["row"].to_pylist() == rows.tolist()
    assert table["id"].to_pylist() == cache.ids[rows].tolist()
    assert table["label"].to_pylist() == ["class"] * len(rows)
    assert table["label_code"].to_pylist() == cache.labels[rows].tolist()
    assert table["split"].to_pylist() == [SPLITS[code] or None for code in cache.split[rows]]
    assert table["group"].to_pylist() == [group or None for group in cache.groups[rows].tolist()]
    assert table["content"].to_pylist() == [row.tobytes().hex() for row in cache.content[rows]]
    for layer in cache.layers:
        values = table[layer.key].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        expected = cache.features(layer.key)[rows]
        assert values.dtype == expected.dtype
        np.testing.assert_array_equal(values.reshape(expected.shape), expected)
    known = json.loads(table.schema.metadata[b"frostline"])
    assert (known["key"], known["failed"], known["classes"]) == (cache.key, 2, ["class"])
    assert (
        FeatureSpec.from_json(json.dumps(known["specification"], sort_keys=True, separators=(",", ":")))
        == cache.spec
    )


@needs_pyarrow
def test_vectors_of_consecutive_rows_are_views_of_the_file(plain):
    (chunk,) = plain.to_arrow("embedding", rows=np.arange(6, 299))["embedding"].chunks
    assert is_of_file(chunk.flatten().to_numpy(), plain)
    (chunk,) = plain.to_arrow("embedding")["embedding"].chunks  # with gaps
    assert not is_of_file(chunk.flatten().to_numpy(), plain)


@needs_pyarrow
def test_stream_is_read_block_by_block(plain, monkeypatch):
    import pyarrow as pa

    monkeypatch.setattr("frostline.features.cache.selection.BLOCK_BYTES", 1)
    table = pa.table(plain)
    assert [len(chunk) for chunk in table["row"].chunks] == [256, 256, 186]
    assert table.equals(plain.to_arrow())


@needs_pyarrow
def test_damaged_rows_are_an_error_of_the_stream(tmp_path):
    import pyarrow as pa

    write(tmp_path / "c.h5")
    layout = FeatureCache.open(tmp_path / "c.h5").file.layout
    data = bytearray((tmp_path / "c.h5").read_bytes())
    data[layout.extents["features/embedding"].offset + 300 * 80] ^= 1
    (tmp_path / "c.h5").write_bytes(data)
    damaged = FeatureCache.open(tmp_path / "c.h5")
    with pytest.raises(ChecksumError, match="embedding of rows 256-511 is damaged"):
        damaged.to_arrow()
    with pytest.raises(OSError, match="rows 256-511 is damaged"):
        pa.table(damaged)
    assert damaged.to_arrow("blocks.4:avg").num_rows == 698
    assert damaged.to_arrow("embedding", rows=np.arange(6, 200)).num_rows == 194


@needs_pandas
@needs_pyarrow
def test_pandas_frame_has_a_column_of_arrays_per_layer(cache):
    frame = cache.to_pandas()
    rows = np.flatnonzero(cache.ok)
    for layer in cache.layers:
        np.testing.assert_array_equal(np.stack(frame[layer.key]), cache.features(layer.key)[rows])
        assert frame[layer.key][0].dtype == cache.features(layer.key).dtype
    assert frame["id"].tolist() == cache.ids[rows].tolist()
    assert frame["label"].cat.categories.tolist() == ["class"]
    assert frame.attrs["frostline"]["key"] == cache.key


@needs_polars
@needs_pyarrow
def test_polars_frame_has_a_column_of_arrays_per_layer(cache):
    import polars

    rows = np.flatnonzero(cache.ok)
    for frame in (cache.to_polars(), polars.DataFrame(cache)):
        assert frame["id"].to_list() == cache.ids[rows].tolist()
        for layer in cache.layers:
            values = frame[layer.key].to_numpy()
            np.testing.assert_array_equal(values, cache.features(layer.key)[rows])


@needs_pyarrow
def test_views_are_chosen(tmp_path):
    cache = write(tmp_path / "c.h5", views=3)
    for view in range(3):
        found = cache.to_arrow("embedding", view=view)["embedding"].combine_chunks().flatten().to_numpy()
        expected = cache.features("embedding", view=view)[cache.ok]
        np.testing.assert_array_equal(found.reshape(expected.shape), expected)
    with pytest.raises(IndexError, match="has 3 views, numbered from 0; got 3"):
        cache.to_arrow(view=3)


def test_missing_libraries_are_named_with_what_installs_them(plain, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        LibraryError, match=r"needs pyarrow, which is not installed: pip install 'frostline\[parquet\]'"
    ):
        plain.to_arrow()
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(LibraryError, match=r"'frostline\[polars\]'"):
        plain.to_polars()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(LibraryError, match="pip install 'pandas'"):
        plain.to_pandas()


@pytest.mark.parametrize(
    ("chosen", "error", "message"),
    [
        ({"rows": [3, 5]}, RowsError, r"1 of the rows have no features.*: 5 \(class/000005.jpg\)"),
        ({"rows": [700]}, RowsError, "has rows 0 to 699; got 700 to 700"),
        ({"rows": [-1]}, RowsError, "got -1 to -1"),
        ({"rows": [0.5]}, RowsError, "got an array of float64 and shape"),
        ({"rows": np.ones(3, bool)}, RowsError, r"expected \(k,\) integers, or \(n,\) bool"),
        ({"split": "trian"}, RowsError, "got 'trian', expected one of none, train, val, test"),
        (
            {"layers": "embeding"},
            LayerError,
            "has no layer 'embeding'; choose one of embedding, blocks.4:avg",
        ),
        ({"layers": ["embedding", "embedding"]}, LayerError, "a layer is named twice"),
    ],
)
def test_rows_and_layers_that_are_not_there_are_refused(plain, chosen, error, message):
    with pytest.raises(error, match=message):
        Selection.of(plain, **chosen)


def test_rows_are_chosen_by_split_by_number_and_by_mask(plain):
    ok, split = plain.ok, plain.split
    np.testing.assert_array_equal(Selection.of(plain, split="val").rows, np.flatnonzero(ok & (split == 2)))
    both = Selection.of(plain, split=["none", "test"])
    np.testing.assert_array_equal(both.rows, np.flatnonzero(ok & ((split == 0) | (split == 3))))
    assert both.failed == (~ok & ((split == 0) | (split == 3))).sum() == 1
    np.testing.assert_array_equal(Selection.of(plain, rows=[9, 2, 2]).rows, [9, 2, 2])
    np.testing.assert_array_equal(Selection.of(plain, rows=ok).rows, np.flatnonzero(ok))
    ((block,)) = Selection.of(plain, "embedding", rows=[9, 2, 2]).blocks()
    np.testing.assert_array_equal(block.features["embedding"], plain.features("embedding")[[9, 2, 2]])
    assert block.ids.tolist() == plain.ids[[9, 2, 2]].tolist()


def test_names_of_layers_are_different_and_free():
    assert column_names(["id", "features_id", "a.b", "a_b"], forbidden=".") == {
        "id": "features_id",
        "features_id": "features_features_id",
        "a.b": "a_b",
        "a_b": "features_a_b",
    }


@pytest.mark.parametrize("cache", ["bfloat16"], indirect=True)
def test_torch_dataset_is_read_by_worker_processes(cache):
    data = cache.to_torch_dataset("embedding", split=["train", "val"])
    expected = cache.features("embedding", as_torch=True)[torch.from_numpy(data.rows)]
    assert data[0][0].dtype == expected.dtype
    assert len(data) == (cache.ok & np.isin(cache.split, (1, 2))).sum()
    assert data.classes == ("class",)
    loader = DataLoader(data, batch_size=64, num_workers=2, multiprocessing_context="spawn")
    batches = list(loader)
    assert torch.equal(torch.cat([features for features, _ in batches]), expected)
    assert torch.cat([labels for _, labels in batches]).tolist() == data.labels.tolist()


def test_torch_dataset_items_can_be_changed_without_changing_others(plain):
    data = plain.to_torch_dataset("embedding", rows=[3, 1])
    features, label = data[0]
    np.testing.assert_array_equal(features.numpy(), plain.features("embedding")[3])
    assert label == 0
    features.zero_()
    for vector, _ in data.__getitems__([0, 1]):
        vector.zero_()
    assert data[0][0].abs().sum() > 0
    again = pickle.loads(pickle.dumps(data))  # noqa: S301  # our own
    assert torch.equal(again[1][0], data[1][0])
    with pytest.raises(IndexError):
        data[2]
    with pytest.raises(LayerError, match="has several layers; choose one of embedding, blocks"):
        plain.to_torch_dataset()
