"""Predictions are those of the cached features and the head, by the engine of the run or one within the contract."""

import json
from pathlib import Path

import numpy as np
import pytest

from frostline import registry
from frostline.features.cache import FeatureCache
from frostline.features.engines.openvino import OpenVinoEngine
from frostline.features.errors import ConversionError, EngineError
from frostline.features.fidelity import Check, LayerCheck
from frostline.pipeline import extract, predict, train_head
from tests.helpers.caches import rewrite_check
from tests.helpers.listener import Listener
from tests.helpers.needs import needs_openvino
from tests.helpers.network import BACKBONE
from tests.helpers.runner import run


def test_predict_agrees_with_the_cache_and_the_head(ten_digits, ten_cache, ten_run):
    from frostline.classifiers.saving.head_files import load_head

    data = FeatureCache.open(ten_cache)
    expected = load_head(ten_run).predict_proba(data.features())
    predictions = json.loads(run("predict", ten_run, ten_digits, "--top-k", 10, "--format", "json").stdout)
    assert [Path(p["path"]).relative_to(ten_digits).as_posix() for p in predictions] == list(data.ids)
    for row, prediction in zip(expected, predictions, strict=True):
        assert dict(prediction["top"]) == pytest.approx(dict(zip(data.classes, row, strict=True)), abs=1e-4)


def photos_of(ten_digits):
    return sorted(ten_digits.glob("*/*"))[:6]


def probabilities(predictions):
    return np.array([dict(each.top)[each.label] for each in predictions])


@pytest.mark.parametrize(
    "way", [("eager", "fp32"), ("eager", "bf16"), pytest.param(("openvino", "fp32"), marks=needs_openvino)]
)
@pytest.mark.usefixtures("cpu")
def test_predict_uses_the_engine_of_the_run(ten_digits, tmp_path, built, way):
    engine, precision = way
    done = extract(ten_digits, cache=tmp_path / "c.h5", engine=engine, precision=precision, **BACKBONE)
    run = train_head(done.cache, "linear", params={"l2": 0.1}, run=tmp_path / "run").run
    built.clear()
    report = Listener()
    predict(run, photos_of(ten_digits), report=report)
    assert built == [way]
    assert not report.notes
    assert not report.warnings


@needs_openvino
def test_predict_falls_back_to_an_engine_within_the_contract(ten_digits, tmp_path, built, cpu):
    done = extract(ten_digits, cache=tmp_path / "c.h5", engine="openvino", precision="fp32", **BACKBONE)
    run = train_head(done.cache, "linear", params={"l2": 0.1}, run=tmp_path / "run").run
    there = predict(run, photos_of(ten_digits))

    cpu.setattr(registry, "find_spec", lambda _name: None)
    built.clear()
    report = Listener()
    found = predict(run, photos_of(ten_digits), report=report)
    assert built == [("eager", "fp32")]
    (note,) = report.notes
    assert "engine eager instead of openvino" in note
    # Features agree to a few unit round-offs of float32 times the length of the sums; the head amplifies them little.
    np.testing.assert_allclose(probabilities(found), probabilities(there), atol=1e-3)
    assert [each.label for each in found] == [each.label for each in there]
    built.clear()
    predict(run, photos_of(ten_digits), precision="fp32")  # which leaves the engine open
    assert built == [("eager", "fp32")]


@needs_openvino
@pytest.mark.usefixtures("cpu")
def test_predict_refuses_unchecked_engine_unless_named(ten_digits, tmp_path, built, monkeypatch):
    done = extract(ten_digits, cache=tmp_path / "c.h5", engine="openvino", precision="fp32", **BACKBONE)
    rewrite_check(done.cache, Check(32, {"embedding": LayerCheck(0.5, 0.5, 1)}))
    run = train_head(done.cache, "linear", params={"l2": 0.1}, run=tmp_path / "run").run

    def refuse(*_args, **_options):
        raise ConversionError("no such operator")

    monkeypatch.setattr(OpenVinoEngine, "__init__", refuse)
    with pytest.raises(EngineError, match=r"0\.500000 .*add --engine eager --precision fp32"):
        predict(run, photos_of(ten_digits))
    report = Listener()
    assert len(predict(run, photos_of(ten_digits), engine="eager", precision="fp32", report=report)) == 6
    (warning,) = report.warnings
    assert "no check shows that they agree" in warning
    assert built[-1] == ("eager", "fp32")
