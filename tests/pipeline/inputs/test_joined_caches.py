"""Features of several backbones side by side: matched by image, projected, trained, evaluated and predicted with."""

import shutil

import numpy as np
import pytest

from frostline.classifiers.errors import HeadFormatError
from frostline.features.cache import FeatureCache
from frostline.pipeline import RunError, evaluate, extract, predict, split_rows, train_head
from frostline.pipeline.inputs.joined_caches import JoinedCaches, open_caches
from frostline.pipeline.inputs.layers import layer_choices, layer_features
from frostline.pipeline.runs.predictions import Predictions
from frostline.pipeline.runs.run import load_run
from frostline.splits import Split
from tests.helpers.runner import run as run_command


def made(folder, file, *, weights="random"):
    extract(folder, backbone="timm:test_resnet", weights=weights, cache=file, batch_size=8, device="cpu")
    return FeatureCache.open(file)


@pytest.fixture(scope="module")
def caches(few_digits, cache, tmp_path_factory):
    """Two backbones; the second's images have other names, so its rows are in another order."""
    folder = tmp_path_factory.mktemp("caches")
    renamed = folder / "renamed"
    for path in sorted(few_digits.rglob("*.png")):
        target = renamed / path.parent.name / f"{9999 - int(path.stem):04}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return cache, made(renamed, folder / "b.h5", weights="random:1")


@pytest.fixture(scope="module")
def joined(caches):
    return JoinedCaches(caches)


def test_rows_are_matched_by_image_bytes(caches, joined):
    first, second = caches
    assert first.ids.tolist() != second.ids.tolist()
    place = {content.tobytes(): row for row, content in enumerate(second.content)}
    order = [place[content.tobytes()] for content in first.content]
    assert order != sorted(order)
    X = layer_features(joined, "1/embedding+2/embedding")
    expected = np.hstack([first.features("embedding"), second.features("embedding")[order]])
    rows = np.array([7, 3, 3])
    np.testing.assert_array_equal(X[rows], expected[rows])
    assert X.shape == expected.shape
    assert joined.ok.all()


def test_layers_of_joined_caches(joined):
    assert [layer.key for layer in joined.layers] == ["1/embedding", "1/layer1:avg", "2/embedding"]
    assert layer_choices(joined, "embedding") == ("1/embedding+2/embedding",)
    assert layer_choices(joined, "1/layer1+2/embedding") == ("1/layer1:avg+2/embedding",)
    assert layer_choices(joined, "all")[-1] == "1/embedding+1/layer1:avg+2/embedding"
    for layer, problem in ((None, "several layers"), ("layer1", "no layer"), ("3/embedding", "from 1 to 2")):
        with pytest.raises(RunError, match=problem):
            layer_choices(joined, layer)


def test_different_images_are_refused_with_examples(caches, few_digits, tmp_path):
    first, _ = caches
    other = tmp_path / "digits"
    shutil.copytree(few_digits, other)
    gone = sorted(other.rglob("*.png"))[:4]
    for path in gone:
        path.unlink()
    shutil.copy(min(few_digits.rglob("*.png")), other / "0" / "new.png")
    (other / "0" / "new.png").write_bytes((other / "0" / "new.png").read_bytes() + b"\0")
    second = made(other, tmp_path / "c.h5")
    with pytest.raises(
        RunError, match=r"4 \(0/0000.png, .*, \.\.\.\) only in the first, 1 \(0/new.png\) only in"
    ):
        JoinedCaches([first, second])


def test_different_labels_are_refused(caches, few_digits, tmp_path):
    other = tmp_path / "digits"
    shutil.copytree(few_digits, other)
    path = min(other.rglob("*.png"))
    path.rename(other / "1" / path.name)
    with pytest.raises(RunError, match=r"the label of 1 \("):
        JoinedCaches([caches[0], made(other, tmp_path / "c.h5")])
    with pytest.raises(RunError, match="twice"):
        JoinedCaches([caches[0], caches[0]])


@pytest.mark.parametrize("project", [None, "pca:5", "random:7"])
def test_run_on_two_backbones_evaluates_and_predicts(caches, few_digits, tmp_path, project):
    joined = open_caches(f"{caches[0].path}+{caches[1].path}")
    options = ["--layer", "embedding", *(["--project", project] if project else [])]
    named = f"{caches[0].path}+{caches[1].path}"
    run_command("train-head", named, "--head", "ridge", "--run", tmp_path / "run", *options)
    run = load_run(tmp_path / "run")
    assert [each.path for each in run.caches] == [str(cache.path) for cache in caches]
    assert run.layer == "1/embedding+2/embedding"
    head = run.head()
    assert head.dim == 2 * caches[0].layers[0].dim
    assert head.estimator.n_features_in_ == (int(project.partition(":")[2]) if project else head.dim)
    assert evaluate(run.path).rows > 0
    expected = head.predict_proba(layer_features(joined, run.layer)[:])
    for row, prediction in zip(expected, predict(run.path, [few_digits], device="cpu"), strict=True):
        assert dict(prediction.top) == pytest.approx(dict(zip(joined.classes, row, strict=True)), abs=1e-3)
    with pytest.raises(RunError, match="expected 2"):
        evaluate(run.path, caches[0].path)
    with pytest.raises(RunError, match="2 backbones"):
        predict(run.path, [few_digits], weights="random")


def test_projection_is_fitted_on_training_rows_only(caches, tmp_path, monkeypatch):
    split, _ = split_rows(caches[0])
    features = caches[0].features("embedding").copy()
    features[split == Split.TEST] = np.nan
    first = train_head(caches[0], "ridge", layer="embedding", project="pca:4", run=tmp_path / "a")
    features[split == Split.VAL] *= 1.5
    monkeypatch.setattr(FeatureCache, "features", lambda *_args, **_options: features)
    second = train_head(caches[0], "ridge", layer="embedding", project="pca:4", run=tmp_path / "b")
    mine, other = (load_run(result.run).head().projection for result in (first, second))
    np.testing.assert_array_equal(mine.components, other.components)


def test_modified_projection_is_refused(caches, tmp_path):
    run = train_head(caches[1], "ridge", project="random:4", run=tmp_path / "run").run
    file = run / "projection.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(HeadFormatError, match=r"projection\.safetensors"):
        load_run(run).head()


def test_validation_predictions_match_the_scores(caches, tmp_path):
    result = train_head(caches[1], "ridge", run=tmp_path / "run")
    judged = Predictions.read(tmp_path / "run" / "validation_predictions.csv")
    split, _ = split_rows(caches[1])
    assert judged.ids.tolist() == caches[1].ids[split == Split.VAL].tolist()
    assert judged.labels.tolist() == [
        caches[1].classes[label] for label in caches[1].labels[split == Split.VAL]
    ]
    assert judged.correct.mean() == result.validation["accuracy"]
