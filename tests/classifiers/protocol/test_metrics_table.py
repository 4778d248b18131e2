"""One table names the metrics; what stores and prints them follows it."""

import dataclasses
import json

import numpy as np
import pytest

from frostline import cli
from frostline.classifiers.protocol.intervals import Interval
from frostline.classifiers.protocol.metrics import METRICS, Metrics, score
from frostline.pipeline.runs.evaluation import MetricEstimates
from tests.helpers.runner import CliRunner


def test_metrics_of_the_table_are_those_of_a_score_and_of_the_record_of_an_evaluation():
    scored = [field.name for field in dataclasses.fields(Metrics) if field.type in (Interval, "Interval")]
    assert list(METRICS) == scored == list(MetricEstimates.__struct_fields__)


@pytest.mark.parametrize("name", METRICS)
def test_a_better_head_has_a_better_value_in_the_direction_of_the_metric(name):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 8, 400)

    def value(strength):
        logits = rng.normal(size=(400, 8)) * 2
        logits[np.arange(400), y] += strength
        proba = np.exp(logits - logits.max(axis=1, keepdims=True))
        return getattr(
            score(y, proba / proba.sum(axis=1, keepdims=True), classes=list("abcdefgh")), name
        ).value

    good, bad = value(9.0), value(0.0)
    assert good != bad
    assert (good > bad) == METRICS[name].greater_is_better


def test_evaluate_prints_each_metric_with_its_direction(digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*words):
        done = CliRunner().invoke(cli.main, [str(word) for word in words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    run("extract", digits, "--backbone", "timm:test_resnet", "--weights", "random", "--cache", "c.h5")
    trained = json.loads(run("train-head", "c.h5", "--json"))["run"]
    lines = [line.split() for line in run("evaluate", trained).splitlines()]
    shown = {" ".join(words[:-5]): words[-1] for words in lines if words and words[-1] in {"higher", "lower"}}
    assert shown == {
        name.replace("_", " "): "higher" if metric.greater_is_better else "lower"
        for name, metric in METRICS.items()
    }
