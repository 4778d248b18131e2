"""The reference of a run is read back as it was, and a changed one is refused."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from frostline.classifiers.errors import HeadFormatError
from frostline.classifiers.fitting.fit import fit_head
from frostline.classifiers.fitting.inputs import FitOptions, LabelledRows
from frostline.classifiers.fitting.rejection import fit_rejection
from frostline.classifiers.saving.head_files import save_head
from frostline.classifiers.saving.rejection_file import REJECTION_FILE, load_rejection, save_rejection
from frostline.files.checksums import list_files


@pytest.fixture
def folder(tmp_path):
    """A head and its reference."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    X = (rng.normal(size=(60, 5)) + y[:, None]).astype(np.float32)
    train, val = np.arange(40), np.arange(40, 60)
    rows = LabelledRows(X, y, train, val, ("a", "b"))
    save_head(fit_head("ridge", rows, FitOptions({"alpha": 1.0})), tmp_path)
    save_rejection(fit_rejection(X, y, train, val, device="cpu"), tmp_path)
    return tmp_path


def test_arrays_are_read_as_they_were_written(folder):
    arrays = load_file(folder / REJECTION_FILE)
    found = load_rejection(folder)
    assert found.distances.tolist() == arrays["distances"].tolist()
    assert found.rows.shape == (40, 5)
    assert found.dim == 5
    (folder / REJECTION_FILE).unlink()
    assert load_rejection(folder) is None


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("rows", lambda each: each.astype(np.float32), "rows: got float32"),
        ("rows", lambda each: each[:, :3].copy(), r"rows: got float16 of shape \(40, 3\)"),
        ("rows", lambda each: each[:0], r"rows: got float16 of shape \(0, 5\)"),
        ("rows", lambda each: each + np.float16(9), "rows, row 0: got a vector of length"),
        ("rows", lambda each: np.where(each == each[3], np.float16(np.nan), each), "rows, row 3: got a vector of length nan"),
        ("rows", lambda each: np.full_like(each, np.inf), "length inf"),
        ("centre", lambda each: each.astype(np.float64), "centre: got float64"),
        ("centre", lambda each: np.full_like(each, 1e38), "rows, row 0"),
        ("distances", lambda each: each.astype(np.float32), "distances: got float32"),
        ("distances", lambda each: each[:, None].copy(), "distances: got float64 of shape"),
        ("distances", lambda each: each[::-1].copy(), "ascending order"),
        ("distances", lambda each: each * np.nan, "from 0 to 2"),
        ("distances", lambda each: each + 3, "from 0 to 2"),
        ("distances", None, "array 'distances' is missing"),
    ],
)  # fmt: skip
def test_arrays_that_no_training_writes_are_refused(folder, name, change, words):
    arrays = load_file(folder / REJECTION_FILE)
    changed = (
        {**arrays, name: change(arrays[name])} if change else {k: v for k, v in arrays.items() if k != name}
    )
    save_file(changed, folder / REJECTION_FILE)
    with pytest.raises(HeadFormatError, match=words):
        load_rejection(folder)


def test_damage_is_found_by_the_listed_digest(folder):
    list_files(folder)
    file = folder / REJECTION_FILE
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    with pytest.raises(HeadFormatError, match="was changed"):
        load_rejection(folder)
    (folder / "SHA256SUMS").unlink()
    file.write_bytes(data[:50])
    with pytest.raises(HeadFormatError, match="can't be read"):
        load_rejection(folder)
