"""Images that are like none of the classes of a run get no label, for any input of a head."""

import csv
import io
import json
import shutil

import numpy as np
import pytest

from frostline.classifiers.saving.rejection_file import REJECTION_FILE, load_rejection
from frostline.errors import OptionError
from frostline.features.cache import FeatureCache
from frostline.pipeline import extract, predict, train_head
from frostline.pipeline.errors import RunError
from frostline.pipeline.inputs.joined_caches import open_caches
from frostline.pipeline.inputs.labelled_images import divide_rows
from frostline.pipeline.inputs.layers import layer_features
from frostline.splits import Split
from tests.helpers.listener import Listener
from tests.helpers.network import BACKBONE
from tests.helpers.runner import run
from tests.helpers.runs import rewrite_record

RIDGE = {"params": {"alpha": 10.0}}


@pytest.fixture(scope="module")
def home(ten_digits, tmp_path_factory):
    """Ten kinds of digits, of which a head knows nine, and caches of the nine by two networks and of two layers."""
    home = tmp_path_factory.mktemp("reject")
    shutil.copytree(ten_digits, home / "nine")
    (home / "nine" / "6").rename(home / "six")
    for name, weights in (("a", "random"), ("b", "random:1")):
        options = {
            **BACKBONE,
            "weights": weights,
            "cache": home / f"{name}.h5",
            "engine": "eager",
            "precision": "fp32",
        }
        extract(home / "nine", layers=("layer3:avg", "layer4:avg"), **options)
    return home


def expected_distances(caches, layer, rows):
    """1 - cosine of the nearest training row, by numpy."""
    cache = open_caches(caches)
    features = layer_features(cache, layer)
    X = np.asarray(features[np.arange(cache.rows)], np.float64)
    train = np.flatnonzero(divide_rows(cache, (0.6, 0.2, 0.2)) == Split.TRAIN)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return (1 - X[rows] @ X[train].T).min(axis=1)


@pytest.mark.parametrize(
    ("caches", "layer", "more"),
    [
        (["a"], "layer4", {}),
        (["a"], "layer3+layer4", {}),
        (["a"], "layer4", {"project": "pca:8"}),
        (["a", "b"], "1/layer4+2/layer3", {}),
    ],
)
def test_images_beyond_the_threshold_are_rejected(home, tmp_path, caches, layer, more):
    paths = [home / f"{name}.h5" for name in caches]
    done = train_head(paths, "ridge", layer=layer, run=tmp_path / "run", **RIDGE, **more)
    moved = shutil.move(done.run, tmp_path / "moved")
    report = Listener()
    found = predict(
        moved, [home / "nine", home / "six"], reject=0.1, engine="eager", precision="fp32", report=report
    )
    plain = predict(moved, [home / "nine", home / "six"], engine="eager", precision="fp32")
    known, strange = found[:108], found[108:]
    assert len(strange) == 12
    distances = np.array([each.distance for each in known])
    np.testing.assert_allclose(
        distances, expected_distances(paths, done.layer, np.arange(108)), rtol=0.02, atol=1e-9
    )
    threshold = load_rejection(moved).threshold(0.1)
    for each, other in zip(found, plain, strict=True):
        assert each.rejected == (each.distance > threshold)
        assert each.top == other.top
        assert (each.label, each.probability) == (
            (None, None) if each.rejected else (other.label, other.probability)
        )
        assert other.rejected is None
        assert other.distance is None
    count = sum(each.rejected for each in found)
    assert 0 < count < 60
    (note,) = [note for note in report.notes if "none of the known classes" in note]
    assert note.startswith(f"{count} of 120 images")
    assert "10.00%" in note


@pytest.fixture(scope="module")
def nine(home):
    return train_head(home / "a.h5", "ridge", layer="layer4", run=home / "run", **RIDGE).run


def test_output_marks_rejected_images(home, nine, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    done = run(
        "predict", nine, home / "six", tmp_path, "--reject", "0.3", "--format", "csv", "--top-k", 1, code=1
    )
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert list(rows[0]) == [
        "path",
        "label",
        "probability",
        "label_1",
        "probability_1",
        "rejected",
        "distance",
        "error",
    ]
    *read, bad = sorted(rows, key=lambda row: bool(row["error"]))
    assert {row["rejected"] for row in read} == {"0", "1"}
    for row in read:
        assert (row["label"] == "") == (row["rejected"] == "1")
        assert row["label_1"]
        assert float(row["distance"]) >= 0
    assert (bad["label"], bad["rejected"], bad["distance"]) == ("", "", "")
    assert (
        f"{sum(row['rejected'] == '1' for row in read)} of 12 images are of none of the known classes"
        in done.stderr
    )
    listed = json.loads(run("predict", nine, home / "six", "--reject", "0.3", "--json").stdout)
    assert [each["rejected"] for each in listed] == [row["rejected"] == "1" for row in read]
    assert all((each["label"] is None) == each["rejected"] for each in listed)
    assert "rejected" not in run("predict", nine, home / "six", "--format", "csv").stdout


def test_runs_that_cannot_reject_say_what_to_do(home, nine, tmp_path):
    images = home / "six"
    with pytest.raises(
        OptionError, match=r"reject: .* takes at least 999 validation images, and the run has"
    ):
        predict(nine, images, reject=0.001)
    with pytest.raises(OptionError, match=r"reject: got 1.5"):
        predict(nine, images, reject=1.5)
    earlier = shutil.copytree(nine, tmp_path / "earlier")
    (earlier / REJECTION_FILE).unlink()
    with pytest.raises(RunError, match=r"an earlier version trained it.*Train the head again"):
        predict(earlier, images, reject=0.1)
    assert predict(earlier, images)[0].label
    record = json.loads((earlier / "run.json").read_text())
    nothing = dict.fromkeys(("weights", "image_size", "from_run", "limit", "cache"))
    numbers = {
        "trained": 1,
        "frozen": 0,
        "best_epoch": 1,
        "weights_sha256": "0" * 64,
        "frozen_sha256": "0" * 64,
    }
    settings = {"backbone": "timm:test_resnet", "from_scratch": True, "recipe": {}, **nothing, **numbers}
    record["caches"][0]["path"] = "features.h5"
    rewrite_record(earlier, record | {"kind": "finetune", "finetune": settings})
    with pytest.raises(RunError, match=r"frostline extract DATA --backbone run:"):
        predict(earlier, images, reject=0.1)
    done = train_head(
        home / "a.h5", "ridge", layer="layer4", fractions=(0.8, 0, 0.2), run=tmp_path / "no-val", **RIDGE
    )
    assert not (done.run / REJECTION_FILE).exists()
    with pytest.raises(RunError, match="no validation images"):
        predict(done.run, images, reject=0.1)


def test_training_reads_no_test_row_for_the_reference(home, nine):
    cache = FeatureCache.open(home / "a.h5")
    codes = divide_rows(cache, (0.6, 0.2, 0.2))
    found = load_rejection(nine)
    assert len(found.rows) == (codes == Split.TRAIN).sum()
    assert len(found.distances) == (codes == Split.VAL).sum()
