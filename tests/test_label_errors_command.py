"""Doubtful labels of a cache: found, ranked, drawn, and never those of test rows."""

import json
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from runner import CliRunner

from frostline import cli
from frostline.features.cache import FeatureCache
from frostline.pipeline import extract, label_errors, split_rows
from frostline.pipeline.demo import write_digits
from frostline.splits import Split


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Sixty real digits, of two classes."""
    whole, folder = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("digits")
    write_digits(whole)
    for group in sorted(whole.iterdir())[:2]:
        (folder / group.name).mkdir()
        for path in sorted(group.iterdir())[:30]:
            (folder / group.name / path.name).write_bytes(path.read_bytes())
    file = tmp_path_factory.mktemp("cache") / "digits.h5"
    extract(folder, backbone="timm:test_resnet", weights="random", cache=file, batch_size=8)
    return FeatureCache.open(file)


def run(*arguments):
    return CliRunner().invoke(cli.main, ["label-errors", *map(str, arguments)])


@pytest.mark.skipif(find_spec("cleanlab") is None, reason="needs the extra labels")
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
    told = run(cache.path, "--folds", "3", "--json")
    assert json.loads(told.stdout)["found"][0]["image"] == cache.ids[wrong]
    assert cache.ids[wrong] in run(cache.path, "--folds", "3").stdout


def test_missing_cleanlab_names_the_extra(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    refused = run(cache.path)
    assert refused.exit_code == 1
    assert "frostline[label-errors]" in refused.stderr
