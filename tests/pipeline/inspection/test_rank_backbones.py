"""Backbones ranked before any training, on train and val rows alone."""

import json

import numpy as np
import pytest
from scipy.special import softmax

from frostline import cli
from frostline.classifiers.experiments.transferability import h_score, leep, log_me, nce, one_nn
from frostline.errors import OptionError
from frostline.features.cache import FeatureCache
from frostline.pipeline import RunError, extract, rank, split_rows
from frostline.pipeline.inspection.rank_backbones import SCORES
from frostline.splits import Split
from tests.helpers.runner import run


@pytest.fixture(scope="module")
def caches(few_digits, tmp_path_factory):
    home = tmp_path_factory.mktemp("caches")
    options = {"backbone": "timm:test_resnet", "batch_size": 8, "device": "cpu"}
    layers = ("embedding", "layer1:avg", "logits")
    first = extract(few_digits, weights="random", layers=layers, cache=home / "a.h5", **options).cache
    second = extract(few_digits, weights="random:1", cache=home / "b.h5", **options).cache
    few = extract(few_digits, weights="random:1", cache=home / "c.h5", limit=30, **options).cache
    return first, second, few


def test_scores_use_train_and_val_rows(caches, monkeypatch):
    cache = FeatureCache.open(caches[0])
    split, _ = split_rows(cache)
    rows = (split == Split.TRAIN) | (split == Split.VAL)
    whole = {layer.key: cache.features(layer.key).copy() for layer in cache.layers}
    for features in whole.values():
        features[split == Split.TEST] = np.nan
    monkeypatch.setattr(FeatureCache, "features", lambda _cache, layer, **_options: whole[layer])
    ranking = rank([caches[0]], device="cpu")
    assert {each.layer for each in ranking.ranked} == {"embedding", "layer1:avg"}
    proba, labels = softmax(whole["logits"][rows].astype(np.float64), axis=1), cache.labels[rows]
    for each in ranking.ranked:
        X = whole[each.layer][rows]
        assert each.log_me == log_me(X, labels)
        assert each.h_score == h_score(X, labels)
        assert each.one_nn == one_nn(X, labels)
        assert (each.leep, each.nce) == (leep(proba, labels), nce(proba.argmax(axis=1), labels))
    assert ranking.rows == (int(rows.sum()),)


@pytest.mark.parametrize("by", SCORES)
def test_best_layers_come_first_and_unscored_last(caches, by):
    ranked = rank(caches[:2], by=by, device="cpu").ranked
    assert len(ranked) == 3
    values = [getattr(each, by) for each in ranked]
    known = [value for value in values if value is not None]
    assert values == sorted(known, reverse=True) + [None] * (3 - len(known))


def test_command_prints_ranking(caches):
    assert "LogME" in run("rank", *caches[:2], "--layer", "embedding").stdout
    result = run("rank", caches[1], "--json", "--quiet")
    assert json.loads(result.stdout)["ranked"][0]["leep"] is None
    (option,) = [each for each in cli.main.commands["rank"].params if each.name == "by"]
    assert list(option.type.choices) == list(SCORES)


def test_different_images_and_unknown_names_are_reported(caches):
    assert "different images" in rank([caches[1], caches[2]], device="cpu").notes[0]
    assert not rank(caches[:2], device="cpu").notes
    with pytest.raises(OptionError, match="by: got 'beauty', expected one of log_me"):
        rank(caches, by="beauty")
    with pytest.raises(RunError, match="no layer"):
        rank(caches[:2], layer="layer1")
