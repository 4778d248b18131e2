"""Every format gives the same cache; damaged and ambiguous files are refused in words, and nothing is written."""

import json
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save, save_file

from frostline import FeatureCache, FrostlineError, OptionError, VectorsError, export_cache, import_vectors
from tests.helpers.needs import needs_pandas, needs_pyarrow
from tests.helpers.runner import run
from tests.pipeline.importing.files import CLASSES, DIM, FILES, IDS, LABELS, NAMES, NEED_PYARROW, ROWS, X, npy


def skip_without_pyarrow(name):
    if name.endswith(NEED_PYARROW) and not find_spec("pyarrow"):
        pytest.skip("needs the extra parquet")


@pytest.fixture
def write(tmp_path):
    def written(name, data=None):
        skip_without_pyarrow(name)
        path = tmp_path / name
        path.write_bytes(FILES[name]() if data is None else data)
        return path

    return written


def imported(path, **options):
    return import_vectors(path, out=path.with_name("out.h5"), **{"name": "toy", **options})


def check_rows(cache, *, classes=CLASSES):
    order = [IDS.index(name) for name in cache.ids]
    assert sorted(order) == list(range(ROWS))
    assert np.array_equal(cache.features(), X[order])
    assert cache.classes == classes
    named = dict(zip(sorted({*LABELS.tolist()}), classes, strict=True))
    assert [cache.classes[label] for label in cache.labels] == [named[LABELS[row]] for row in order]
    assert cache.verify().ok


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_rows_and_what_is_said_of_them(write, name):
    result = imported(write(name))
    with_names = name != "x.safetensors"
    check_rows(FeatureCache.open(result.cache), classes=CLASSES if with_names else ("0", "1", "2"))
    assert {"id", "label"} <= result.columns.keys()
    assert (result.rows, result.written, result.failed) == (ROWS, ROWS, 0)
    assert result.layers == {"embedding": DIM}
    again = imported(write(name))
    assert again.unchanged
    assert again.key == result.key


def test_one_set_of_rows_has_one_key_in_every_format(write, tmp_path):
    names = [name for name in FILES if not name.endswith(NEED_PYARROW) or find_spec("pyarrow")]
    keys = {import_vectors(write(name), name="toy", out=tmp_path / f"{name}.h5").key for name in names}
    assert len(keys) == 1


@pytest.mark.parametrize("fortran", [False, True])
@pytest.mark.parametrize("kind", ["<f2", ">f4", "<f8", "u1", "<i8"])
def test_arrays_of_numpy_with_files_beside_them(write, tmp_path, kind, fortran):
    array = np.array(X * 50, kind, order="F" if fortran else "C")
    path = write("x.npy", npy(array))
    write("names.txt", "\n".join(IDS).encode())
    write("y.npy", npy(LABELS))
    write(
        "rows.csv",
        b"id,part\n"
        + b"".join(f"{name},{'train' if n % 2 else 'test'}\n".encode() for n, name in enumerate(IDS)),
    )
    result = imported(
        path,
        ids=str(tmp_path / "names.txt"),
        labels=str(tmp_path / "y.npy"),
        split=f"{tmp_path / 'rows.csv'}:part",
    )
    cache = FeatureCache.open(result.cache)
    order = [IDS.index(name) for name in cache.ids]
    assert np.array_equal(cache.features(), array[order].astype(cache.features().dtype))
    assert cache.split.tolist() == [1 if row % 2 else 3 for row in order]
    assert cache.labels.tolist() == LABELS[order].tolist()
    by_column = import_vectors(path, name="toy", out=tmp_path / "c.h5", ids=str(tmp_path / "rows.csv"))
    assert by_column.key == result.key


def test_several_arrays_must_be_named(tmp_path):
    path = tmp_path / "two.npz"
    np.savez(path, a=X, b=X[:, :2], ids=IDS)
    with pytest.raises(
        VectorsError, match=r"several arrays that may be the vectors: 'a' float32\(40, 6\), 'b'.*--array"
    ):
        imported(path)
    assert imported(path, arrays=["a", "b"]).layers == {"a": DIM, "b": 2}
    with pytest.raises(VectorsError, match="no 'z'; it has 'a'"):
        import_vectors(path, name="t", out=tmp_path / "z.h5", arrays=["z"])
    assert not (tmp_path / "z.h5").exists()


def test_groups_of_hdf5_and_views_of_tensors(tmp_path):
    with h5py.File(tmp_path / "g.h5", "w") as file:
        file["train/a"], file["train/b"] = X, X[:, :3]
    assert imported(tmp_path / "g.h5", arrays=["train/a", "train/b"]).layers == {"train.a": DIM, "train.b": 3}
    save_file({"v": torch.from_numpy(X).bfloat16()}, tmp_path / "b.safetensors")
    result = import_vectors(tmp_path / "b.safetensors", name="t", out=tmp_path / "b.h5")
    assert result.dtype == "bfloat16"
    assert torch.equal(
        FeatureCache.open(result.cache).features(as_torch=True), torch.from_numpy(X).bfloat16()
    )
    torch.save(torch.from_numpy(X).t().contiguous().t(), tmp_path / "t.pt")
    result = import_vectors(tmp_path / "t.pt", name="t", out=tmp_path / "t.h5")
    assert np.array_equal(FeatureCache.open(result.cache).features(), X)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (b"id,age,size\na,1,2\n", {}, "no numbered columns.*'age', 'size'.*--columns"),
        (b"id,f0,f2\na,1,2\n", {}, "no numbered columns"),
        (b"id,f0,f1\na,1,x\n", {}, "line 2, column 'f1': got 'x', expected a number"),
        (b"id,f0,f1\na,1\n", {}, "line 2: got 2 cells, expected 3"),
        (b"id,f0,f0\na,1,2\n", {}, "several columns named 'f0'"),
        (b"1.5,2.5\n3,4\n", {}, "line 1 holds numbers, expected the names"),
        (b"id,f0,f1\n", {}, "got 0 rows"),
        (b"id,f0,f1\na,1,2\n", {"columns": "z*"}, "no column fits 'z\\*'"),
        (b"id,f0,f1\na,1,2\n", {"labels": "kind"}, "--labels: it has no 'kind', and there is no such file"),
        (b"id,ids,f0\na,b,1\n", {}, "both 'id' and 'ids' may tell the id"),
        (b'id,f0,f1\n"a,1,2\n', {}, "line"),
        (b"id,f0\n\xff,1\n", {}, "UTF-8"),
        (b"id,f0\na,1\na,2\n", {}, "the id 'a' is that of the rows 0 and 1"),
    ],
)
def test_tables_that_are_not_clear_are_refused(write, text, options, message):
    path = write("x.csv", text)
    with pytest.raises(VectorsError, match=message):
        imported(path, **options)
    assert not path.with_name("out.h5").exists()


def test_columns_are_taken_by_pattern_and_in_the_order_of_their_numbers(write):
    path = write("x.csv", b"id,f10,f9,age,label\na,10,9,30,u\nb,1,,31,v\n")
    result = imported(path, columns="f*", max_bad=0.5)
    cache = FeatureCache.open(result.cache)
    assert cache.features()[0].tolist() == [9, 10]
    assert (result.side_columns, result.unused) == (("age",), ())
    assert cache.columns["age"].tolist() == [30, 31]
    assert result.errors == {"b": "embedding: 1 of 2 values are not finite"}


@needs_pyarrow
def test_missing_and_uneven_lists(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    rows = [[1.0, 2.0], None, [3.0, None]]
    parquet.write_table(pa.table({"v": rows}), tmp_path / "x.parquet")
    result = imported(tmp_path / "x.parquet", max_bad=1)
    assert FeatureCache.open(result.cache).ok.tolist() == [True, False, False]
    parquet.write_table(pa.table({"v": [[1.0, 2.0], [1.0]]}), tmp_path / "y.parquet")
    with pytest.raises(VectorsError, match="row 2, column 'v': got 1 numbers, expected 2"):
        import_vectors(tmp_path / "y.parquet", name="t", out=tmp_path / "y.h5")


@pytest.mark.parametrize("name", [*FILES, "x.npy"])
def test_damaged_files_are_refused_or_give_what_was_written(write, tmp_path, name):
    data = (
        npy()
        if name == "x.npy"
        else FILES[name]()
        if not name.endswith(NEED_PYARROW) or find_spec("pyarrow")
        else b""
    )
    path = write(name, data)
    for kept in (0, 1, len(data) // 3, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:kept])
        try:
            result = import_vectors(path, name="toy", out=tmp_path / "out.h5")
        except (FrostlineError, OSError) as error:
            assert name in str(error)  # noqa: PT017  # a text file that is cut may be valid
        else:
            assert name.endswith(("csv", "tsv", "jsonl"))
            assert result.rows <= ROWS
            result.cache.unlink()
        assert not list(tmp_path.glob("out*"))


def test_no_code_in_a_torch_file_runs(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"vectors": torch.zeros(3, 2), "x": Evil()}, tmp_path / "x.pt")
    with pytest.raises(VectorsError, match="holds Python objects besides tensors"):
        imported(tmp_path / "x.pt")
    assert not (tmp_path / "ran").exists()


def test_claims_that_a_file_does_not_hold_are_refused(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("v", (1 << 30, 64), "f4", chunks=(1024, 64))
    with pytest.raises(VectorsError, match="claims 274,877,906,944 bytes of numbers, and holds 0"):
        imported(tmp_path / "x.h5")
    torch.save({"v": torch.zeros(1).expand(1 << 30, 64)}, tmp_path / "x.pt")
    with pytest.raises(VectorsError, match="repeats"):
        imported(tmp_path / "x.pt")


def test_the_name_is_required_and_facts_are_pairs(write):
    path = write("x.npy", npy())
    with pytest.raises(OptionError, match="name the model"):
        import_vectors(path, out=path.with_name("out.h5"))
    with pytest.raises(OptionError, match="expected KEY=VALUE"):
        imported(path, declare=["model"])
    with pytest.raises(VectorsError, match=r"expected a file ending in \.npy, \.npz"):
        imported(write("x.xls", b"x"))
    with pytest.raises(OSError, match="No such file"):
        imported(path.with_name("missing.npy"))


def test_a_cache_needs_no_import(tmp_path):
    FeatureCache.from_arrays(tmp_path / "c.h5", X, name="toy")
    with pytest.raises(VectorsError, match="is a cache of features already"):
        imported(tmp_path / "c.h5")


def test_the_command_tells_what_was_taken(write, tmp_path):
    path = write("x.csv")
    shown = run(
        "cache", "import", path, "--name", "toy", "--declare", "model=m", "--out", tmp_path / "o.h5"
    ).stdout
    assert f"{ROWS} vectors, float32; imported toy, declared model=m" in shown
    assert "taken: id from id, label from label" in shown
    assert "imported: imported toy, declared model=m" in run("cache", "info", tmp_path / "o.h5").stdout
    assert (
        "Nothing to do"
        in run(
            "cache", "import", path, "--name", "toy", "--declare", "model=m", "--out", tmp_path / "o.h5"
        ).stdout
    )
    assert run("cache", "import", path, "--out", tmp_path / "p.h5", code=2).stderr.startswith("Error: name: ")
    assert NAMES


@needs_pyarrow
def test_other_columns_of_tables_are_side_columns(write, tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    notes = ["=a", "", "b, c"]
    lines = zip("xyz", ["0.1", "", "2"], ["'=a", "", '"b, c"'], strict=True)
    text = b"id,size,note,f0,f1,empty\n" + b"".join(
        f"{name},{size},{note},1,2,\n".encode() for name, size, note in lines
    )
    objects = b"".join(
        json.dumps({"id": name, "size": size, "note": note, "v": [1, 2], "empty": {"a": 1}}).encode() + b"\n"
        for name, size, note in zip("xyz", [0.1, None, 2], notes, strict=True)
    )
    table = {
        "id": [*"xyz"],
        "size": pa.array([0.1, None, 2], pa.float32()),
        "note": pa.array(notes).dictionary_encode(),
        "v": [[1.0, 2.0]] * 3,
        "empty": pa.array([None] * 3, pa.string()),
    }
    parquet.write_table(pa.table(table), tmp_path / "t.parquet")
    for path in (write("t.csv", text), write("t.jsonl", objects), tmp_path / "t.parquet"):
        result = import_vectors(path, name="toy", out=tmp_path / f"{path.suffix}.h5")
        assert (result.side_columns, result.unused) == (("size", "note"), ("empty",))
        cache = FeatureCache.open(result.cache)
        assert np.array_equal(cache.columns["size"], [0.1, np.nan, 2], equal_nan=True)
        assert cache.columns["note"].tolist() == notes


@pytest.mark.parametrize("to", ["csv", "npz", "safetensors", "parquet", "arrow"])
def test_side_columns_of_an_export_come_back(tmp_path, to):
    skip_without_pyarrow(f"x.{to}")
    ages, notes = np.arange(ROWS) / 4, [f"note {row % 3}" for row in range(ROWS)]
    first = FeatureCache.from_arrays(
        tmp_path / "a.h5", X, name="toy", ids=IDS, labels=NAMES, columns={"age": ages, "row": notes}
    )
    out = tmp_path / f"x.{to}"
    export_cache(first, to=to, out=out)
    result = import_vectors(out, name="toy", out=tmp_path / "b.h5")
    again = FeatureCache.open(result.cache)
    name = "column_row" if to == "csv" else "row"  # which has no description
    assert (result.side_columns, result.unused) == (("age", name), ())
    assert again.columns["age"].tolist() == first.columns["age"].tolist() == ages[np.argsort(IDS)].tolist()
    assert again.columns[name].tolist() == [notes[IDS.index(each)] for each in again.ids]


def test_columns_of_images_join_those_of_the_vectors(tmp_path):
    ids = ["a.png", "b.png"]
    for name in ids:
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "m.csv").write_text("path,age,site\na.png,1,n\nb.png,2,s\n")
    cache = FeatureCache.from_arrays(
        tmp_path / "c.h5", X[:2], name="toy", ids=ids, images=tmp_path / "m.csv", columns={"age": [5, 6]}
    )
    assert {name: values.tolist() for name, values in cache.columns.items()} == {
        "age": [5, 6],
        "site": ["n", "s"],
    }


@needs_pandas
def test_columns_of_a_data_frame_can_be_side_columns(tmp_path):
    import pandas

    frame = pandas.DataFrame({"f": [1.0, 2.0], "age": np.array([0.1, 2], np.float32), "id": ["a", "b"]})
    cache = FeatureCache.from_arrays(tmp_path / "d.h5", frame, name="toy", ids="id", columns=["age"])
    assert cache.columns["age"].tolist() == [0.1, 2]
    assert cache.features().tolist() == [[1], [2]]
    with pytest.raises(VectorsError, match="columns: the data frame has no column 'sex'"):
        FeatureCache.from_arrays(tmp_path / "e.h5", frame, name="toy", columns=["sex"])
    with pytest.raises(VectorsError, match="age: got 3 values, expected one per row, 2"):
        FeatureCache.from_arrays(tmp_path / "e.h5", X[:2], name="toy", columns={"age": [1, 2, 3]})


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_file_with_the_vectors_is_never_replaced(write, overwrite):
    path = write("x.npy", npy())
    before = path.read_bytes()
    with pytest.raises(FrostlineError, match=r"x\.npy: this file holds the data that the cache is made of"):
        import_vectors(path, out=path, name="toy", overwrite=overwrite)
    assert path.read_bytes() == before


def test_names_of_classes_without_labels_are_refused(write, tmp_path):
    (tmp_path / "classes.txt").write_text("a\nb\n")
    with pytest.raises(VectorsError, match="got names of classes, and no labels that are their numbers"):
        imported(write("x.npy", npy()), classes=str(tmp_path / "classes.txt"))
    np.savez(tmp_path / "x.npz", v=X, classes=np.array(["a", "b"]))
    assert imported(tmp_path / "x.npz").classes == ()


def test_labels_that_are_a_pickle_are_named_as_such(tmp_path):
    np.savez(tmp_path / "x.npz", v=X, labels=np.array([None] * ROWS))
    with pytest.raises(
        VectorsError, match=r"x\.npz, its array 'labels': holds Python objects, which are a pickle"
    ):
        imported(tmp_path / "x.npz")


def test_a_shape_of_other_things_than_numbers_is_refused(tmp_path):
    header = b"{'descr':'<f4','fortran_order':False,'shape':(True,8)}\n"
    (tmp_path / "x.npy").write_bytes(
        b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(32)
    )
    with pytest.raises(FrostlineError, match=r"x\.npy: not a readable NumPy array: its shape is \(True, 8\)"):
        imported(tmp_path / "x.npy")


def test_vectors_in_other_files_are_told(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["v"] = h5py.ExternalLink("other.h5", "v")
    with pytest.raises(VectorsError, match=r"x\.h5: not read, because the numbers lie in other files: 'v'"):
        imported(tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "a") as file:
        file["w"] = X
    assert imported(tmp_path / "x.h5").unused == ("v",)


def test_the_first_line_of_json_may_lack_its_vector(write):
    path = write("x.jsonl", b'{"id":"a","v":null}\n{"id":"b","v":[1,2]}\n{"id":"c","v":[3,4]}\n')
    done = imported(path, max_bad=0.5)
    assert [*done.errors] == ["a"]
    assert FeatureCache.open(done.cache).features()[1:].tolist() == [[1, 2], [3, 4]]


def test_texts_of_an_export_that_are_not_unicode_are_refused(tmp_path):
    described = {"format": "frostline-vectors", "layers": [{"key": "v"}], "columns": [{"key": "note"}]}
    with (tmp_path / "x.safetensors").open("wb") as file:
        file.write(
            save(
                {"v": torch.zeros(2, 3), "note": torch.full((2, 4), 255, dtype=torch.uint8)},
                {"frostline": json.dumps(described)},
            )
        )
    with pytest.raises(VectorsError, match=r"x\.safetensors, its array 'note': a text is not UTF-8"):
        imported(tmp_path / "x.safetensors")
