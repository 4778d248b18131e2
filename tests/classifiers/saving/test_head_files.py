"""A head on disk gives the same probabilities, and a file that isn't ours is refused."""

import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from skops import io as skops_io

from frostline.classifiers import HEADS, FitOptions, LabelledRows, fit_head, load_head, save_head
from frostline.classifiers.errors import HeadFormatError

CASES = [
    *((name, {}) for name in HEADS.builtin),
    ("mlp", {"batch_norm": True, "hidden": (8, 4)}),
    ("mlp", {"hidden": ()}),
    ("svm", {"kernel": "rbf"}),
    ("knn", {"weights": "distance", "metric": "euclidean"}),
    ("logreg", {"class_weight": "balanced"}),
]


def fit(name, data, params):
    quick = {
        "mlp": {"hidden": (8,), "epochs": 3, "lr": 0.01},
        "svm": {"C": 0.01},
        "forest": {"n_estimators": 5, "min_samples_leaf": 1},
        "boosting": {"max_iter": 5, "max_leaf_nodes": 3},
    }.get(name, {})
    return fit_head(
        name,
        LabelledRows(data.X, data.y, np.arange(200), np.arange(200, 300), data.classes),
        FitOptions({**quick, **params}, device="cpu"),
    )


@pytest.mark.parametrize(("name", "params"), CASES)
@pytest.mark.parametrize("k", [2, 3])
def test_a_round_trip_keeps_everything(name, params, k, make_blobs, tmp_path):
    data = make_blobs(300, 6, k, dtype=np.float16)
    head = fit(name, data, params)
    save_head(head, tmp_path)
    loaded = load_head(tmp_path)
    assert np.array_equal(loaded.predict_proba(data.X), head.predict_proba(data.X))
    for field in (
        "name",
        "classes",
        "params",
        "trials",
        "validation",
        "temperature",
        "seconds",
        "dim",
        "dtype",
        "curve",
    ):
        assert getattr(loaded, field) == getattr(head, field), field
    numbers = "head.safetensors" if name in {"linear", "mlp"} else "head.skops"
    assert {path.name for path in tmp_path.iterdir()} == {"head.json", numbers}
    assert b"pickle" not in (tmp_path / numbers).read_bytes()


@pytest.mark.parametrize("name", ["linear", "ridge", "knn", "forest"])
def test_a_head_without_rows_of_a_class_is_loaded(name, make_blobs, tmp_path):
    data = make_blobs(300, 6, 3)
    train, val = (rows[data.y[rows] < 2] for rows in (np.arange(200), np.arange(200, 300)))
    head = fit_head(name, LabelledRows(data.X, data.y, train, val, data.classes), FitOptions(device="cpu"))
    save_head(head, tmp_path)
    found = load_head(tmp_path).predict_proba(data.X)
    assert np.array_equal(found, head.predict_proba(data.X))
    assert not found[:, 2].any()


@pytest.fixture(scope="module")
def fitted(blobs):
    return {name: fit(name, blobs, {}) for name in ("linear", "ridge")}


@pytest.fixture
def saved(fitted, tmp_path):
    def save(name):
        save_head(fitted[name], tmp_path)
        return tmp_path

    return save


def rewrite(folder: Path, **changes):
    path = folder / "head.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def plant(folder: Path, data: bytes):
    """Put other numbers in place, with the digest that fits them."""
    file = json.loads((folder / "head.json").read_text())["file"]
    (folder / file).write_bytes(data)
    rewrite(folder, sha256=hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("name", ["linear", "ridge"])
def test_a_changed_byte_is_found(name, saved):
    folder = saved(name)
    (path,) = folder.glob("head.s*")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(HeadFormatError, match="got SHA-256"):
        load_head(folder)


def test_saving_again_replaces(blobs, saved):
    folder = saved("linear")
    other = fit("linear", blobs, {"l2": 5.0})
    save_head(other, folder)
    assert load_head(folder).params["l2"] == 5.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 99}, "format_version: got 99, expected 1"),
        ({"file": "../head.safetensors"}, "file: got '../head.safetensors'"),
        ({"file": "head.skops"}, "head.skops is missing"),
        ({"name": "oracle"}, "no head 'oracle'"),
        ({"name": "ridge", "params": {}}, "a 'ridge' head is not saved as tensors"),
        ({"name": "mlp", "params": {}}, "does not fit .*expected mean, scale, classes"),
        ({"params": {"l3": 1}}, "has no parameter 'l3'"),
        ({"params": {"l2": "strong"}}, "l2: got 'strong'"),
        ({"dim": 13}, "length of a feature vector: got 12, expected 13"),
        ({"classes": ["a"]}, "labels: got"),
        ({"temperature": 0}, "temperature: expected float > 0.0, got 0"),
        ({"temperature": "hot"}, "is not the record of a head: temperature"),
        ({"surprise": 1}, "is not the record of a head.*surprise"),
    ],
)
def test_a_record_that_does_not_fit_is_refused(changes, message, saved):
    folder = saved("linear")
    rewrite(folder, **changes)
    with pytest.raises(HeadFormatError, match=message):
        load_head(folder)


def test_missing_and_truncated_files_are_refused(saved, tmp_path):
    with pytest.raises(HeadFormatError, match=r"head\.json is missing: .* holds no head"):
        load_head(tmp_path / "nowhere")
    folder = saved("linear")
    record = (folder / "head.json").read_bytes()
    (folder / "head.json").write_bytes(record[:-20])
    with pytest.raises(HeadFormatError, match="is not the record of a head"):
        load_head(folder)


@pytest.mark.parametrize("name", ["linear", "ridge"])
def test_corrupt_numbers_file_raises(name, saved):
    folder = saved(name)
    plant(folder, b"these are no numbers")
    with pytest.raises(HeadFormatError, match=r"can't be read: (the header|it is no whole zip archive)"):
        load_head(folder)


def test_skops_trusted_estimator_of_no_builtin_head_raises(blobs, saved):
    folder = saved("ridge")
    foreign = make_pipeline(StandardScaler(), SGDClassifier()).fit(blobs.X, blobs.y)
    plant(folder, skops_io.dumps(foreign))
    with pytest.raises(HeadFormatError, match=r"SGDClassifier \(ObjectNode\).*which no built-in head does"):
        load_head(folder)


def test_a_function_in_a_file_is_refused_and_not_run(saved):
    folder = saved("ridge")
    foreign = make_pipeline(FunctionTransformer(func=Path.mkdir), StandardScaler())
    plant(folder, skops_io.dumps(foreign))
    with pytest.raises(HeadFormatError, match="mkdir"):
        load_head(folder)


@pytest.mark.parametrize(
    ("schema", "compression", "message"),
    [
        ("{}", zipfile.ZIP_DEFLATED, "is compressed"),
        ("[" * 200_000, zipfile.ZIP_STORED, "it is not a skops file"),
        ("{", zipfile.ZIP_STORED, "it is not a skops file"),
        ("{}", zipfile.ZIP_STORED, "skops can't read it"),
    ],
)
def test_hostile_archives_are_refused(schema, compression, message, saved):
    folder = saved("ridge")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("schema.json", schema)
    plant(folder, buffer.getvalue())
    with pytest.raises(HeadFormatError, match=message):
        load_head(folder)


def test_swapped_builtin_head_raises(blobs, saved):
    folder = saved("ridge")
    plant(folder, skops_io.dumps(fit("logreg", blobs, {}).estimator))
    with pytest.raises(
        HeadFormatError,
        match="got steps StandardScaler, LogisticRegression, expected StandardScaler, RidgeClassifier",
    ):
        load_head(folder)
