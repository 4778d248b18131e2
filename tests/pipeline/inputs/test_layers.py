"""Layers as a choice: each by itself and all side by side, through training, evaluation and prediction."""

import numpy as np
import pytest

from frostline.features.cache import FeatureCache
from frostline.pipeline import RunError, evaluate, predict, split_rows, train_head
from frostline.pipeline.inputs.layers import layer_choices, layer_features
from frostline.pipeline.runs.run import load_run
from frostline.splits import Split

BOTH = "embedding+layer1:avg"


def test_joined_layers_are_concatenated(cache):
    joined = layer_features(cache, BOTH)
    parts = [cache.features("embedding"), cache.features("layer1:avg")]
    assert joined.shape == (60, parts[0].shape[1] + parts[1].shape[1])
    rows = np.array([5, 2, 2])
    assert np.array_equal(joined[rows], np.hstack(parts)[rows])
    assert joined.dtype == joined[:2].dtype == parts[0].dtype


def test_layer_choices(cache):
    assert layer_choices(cache, "all") == ("embedding", "layer1:avg", BOTH)
    assert layer_choices(cache, "layer1+embedding") == ("layer1:avg+embedding",)
    for layer, problem in (
        ("embedding+embedding", "twice"),
        ("embedding+layer9", "no layer"),
        (None, "several"),
    ):
        with pytest.raises(RunError, match=problem):
            layer_choices(cache, layer)


def test_layer_with_best_validation_accuracy_is_chosen(cache, tmp_path):
    result = train_head(cache, "ridge", layer="all", run=tmp_path / "run")
    best = {}
    for trial in result.trials:
        best[trial["layer"]] = max(best.get(trial["layer"], 0), trial["accuracy"])
    assert list(best) == ["embedding", "layer1:avg", BOTH]
    assert best[result.layer] == max(best.values()) == result.validation["accuracy"]


def test_search_covers_layers_without_test_rows(cache, tmp_path, monkeypatch):
    split, _ = split_rows(cache)
    whole = {layer.key: cache.features(layer.key).copy() for layer in cache.layers}
    for features in whole.values():
        features[split == Split.TEST] = np.nan
    monkeypatch.setattr(FeatureCache, "features", lambda _cache, layer, **_options: whole[layer])
    result = train_head(cache, "ridge", layer="all", search="random", trials=2, cv=2, run=tmp_path / "run")
    assert [trial["layer"] for trial in result.trials] == ["embedding"] * 2 + ["layer1:avg"] * 2 + [BOTH] * 2
    assert result.layer == max(result.trials, key=lambda trial: trial["accuracy"])["layer"]
    assert (tmp_path / "run" / "search.png").exists()
    assert list(tmp_path.iterdir()) == [tmp_path / "run"]


def test_run_on_joined_layers_evaluates_and_predicts(cache, few_digits, tmp_path):
    result = train_head(cache, "ridge", layer=BOTH, run=tmp_path / "run")
    assert load_run(result.run).layer == result.layer == BOTH
    assert evaluate(result.run).rows > 0
    expected = load_run(result.run).head().predict_proba(layer_features(cache, BOTH)[:])
    found = predict(result.run, [few_digits])
    for row, prediction in zip(expected, found, strict=True):
        assert dict(prediction.top) == pytest.approx(dict(zip(cache.classes, row, strict=True)), abs=1e-4)
