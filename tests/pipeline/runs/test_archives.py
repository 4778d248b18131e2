"""Runs that earlier versions wrote still load, predict the same and are evaluated.

`tests/data/archives/runs/vN` holds runs of format version N as the version of their time wrote them, the cache of 72
digits that they were trained on, and the probabilities that they gave for its rows. They are never written again.
"""

import shutil

import numpy as np
import pytest

from frostline.classifiers import load_head
from frostline.features.cache import FeatureCache
from frostline.pipeline import evaluate
from tests.helpers.paths import DATA

ARCHIVES = DATA / "archives" / "runs"
RUNS = sorted(path.parent for path in ARCHIVES.glob("v*/*/run.json"))


def test_every_version_has_runs():
    assert {run.parent.name for run in RUNS} == {"v1", "v2", "v3"}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.InconsistentVersionWarning")  # written by one of them
@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run.parent.name}/{run.name}")
def test_an_archived_run_predicts_and_is_evaluated(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / run.name)
    cache = FeatureCache.open(run.parent / "cache.h5")
    expected = np.load(run.parent / "probabilities.npz")[run.name]
    np.testing.assert_allclose(
        load_head(copy).predict_proba(cache.features("embedding")), expected, rtol=0, atol=1e-5
    )
    assert evaluate(copy, run.parent / "cache.h5").metrics.top1.value > 0.5
