"""Doubtful labels of a cache: found, ranked, drawn, and never those of test rows."""

import json
import sys

import numpy as np
import pytest

from frostline.features.cache import FeatureCache
from frostline.pipeline import extract, label_errors, split_rows
from frostline.splits import Split
from tests.helpers.needs import needs_cleanlab
from tests.helpers.runner import run


@pytest.fixture(scope="module")
def cache(few_digits, tmp_path_factory):
    file = tmp_path_factory.mktemp("cache") / "digits.h5"
    extract(few_digits, backbone="timm:test_resnet", weights="random", cache=file, batch_size=8)
    return FeatureCache.open(file)


@needs_cleanlab
def test_wrong_label_is_found_without_test_rows(cache, tmp_path, monkeypatch):
    split, _ = split_rows(cache)
    features = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32) + 8 * cache.labels[:, None]
    wrong = int(np.flatnonzero((split == Split.TRAIN) & (cache.labels == 0))[0])
    features[wrong] += 8  # looks like a 1
    features[split == Split.TEST] = np.nan
    monkeypatch.setattr(FeatureCache, "features", lambda *_args, **_options: features)
    result = label_errors(cache, folds=3, out=tmp_path / "new", device="cpu")
    assert result.rows == int(((split == Split.TRAIN) | (split == Split.VAL)).sum())
    (found,) = result.found
    assert (found.image, found.given, found.suggested) == (cache.ids[wrong], "0", "1")
    assert -1 <= found.margin < 0
    assert result.picture.stat().st_size > 0
    assert cache.ids[wrong] in result.table.read_text()
    told = run("label-errors", cache.path, "--folds", "3", "--json")
    assert json.loads(told.stdout)["found"][0]["image"] == cache.ids[wrong]
    assert cache.ids[wrong] in run("label-errors", cache.path, "--folds", "3").stdout


@needs_cleanlab
def test_no_findings_replace_those_of_an_earlier_call(cache, tmp_path, monkeypatch):
    features = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32) + 20 * cache.labels[:, None]
    monkeypatch.setattr(FeatureCache, "features", lambda *_args, **_options: features)
    for name in ("label-errors.csv", "label-errors.png"):
        (tmp_path / name).write_text("earlier")
    result = label_errors(cache, folds=3, out=tmp_path, device="cpu")
    assert (result.found, result.picture) == ((), None)
    assert result.table.read_text() == "image,given,suggested,margin\n"
    assert not (tmp_path / "label-errors.png").exists()


def test_missing_cleanlab_names_the_extra(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    assert "frostline[label-errors]" in run("label-errors", cache.path, code=1).stderr
