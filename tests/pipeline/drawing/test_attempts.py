"""A picture that can't be drawn: its numbers are on disk before, and it costs one warning."""

import json
import shutil

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from frostline.pipeline import (
    Recipe,
    check_cache,
    evaluate,
    extract,
    few_shot,
    finetune,
    label_errors,
    learning_curve,
    train_head,
    write_report,
)
from frostline.pipeline.drawing.attempts import drawn
from frostline.pipeline.drawing.plots import plot_confusion
from frostline.pipeline.progress import SILENT
from frostline.pipeline.runs.evaluation import read_evaluation
from frostline.pipeline.runs.run import load_run
from frostline.pipeline.tuning.finetune import HISTORY
from tests.helpers.needs import needs_cleanlab, needs_plotly
from tests.pipeline.tuning.training import QUIET, SMALL

EXACT = {"engine": "eager", "precision": "fp32", "device": "cpu"}


class Reporter(type(SILENT)):
    def __init__(self):
        self.warnings = []

    def warn(self, message):
        self.warnings.append(message)

    def of_pictures(self):
        found = [text for text in self.warnings if "could not be drawn" in text]
        assert all(len(text.splitlines()) == 1 for text in found)
        return found


@pytest.fixture(scope="module")
def cache(ten_digits, tmp_path_factory):
    path = tmp_path_factory.mktemp("cache") / "c.h5"
    return extract(ten_digits, backbone="timm:test_resnet", weights="random", cache=path, **EXACT).cache


@pytest.fixture(scope="module")
def run(cache, tmp_path_factory):
    return train_head(cache, "linear", params={"l2": 10.0}, run=tmp_path_factory.mktemp("run") / "run").run


@pytest.fixture
def no_ink(monkeypatch):
    """Let every plot fail. Returns a list that gets what `look` finds at each attempt to draw one."""
    seen = []

    def arm(look):
        def fail(*_args, **_options):
            seen.append(look())
            raise RuntimeError("no ink\nat all")

        monkeypatch.setattr(Figure, "savefig", fail)
        return seen

    return arm


def names(folder):
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def unpublished(run):
    """Names of the files in the folder that becomes a run."""
    (folder,) = run.parent.glob(f".{run.name}.*.partial")
    return names(folder)


def test_train_head(cache, no_ink, tmp_path):
    report, path = Reporter(), tmp_path / "run"
    seen = no_ink(lambda: unpublished(path))
    result = train_head(cache, "linear", search="grid", run=path, report=report)
    assert len(report.of_pictures()) == len(seen) >= 1
    assert "no ink at all" in report.warnings[-1]
    assert all(
        {"run.json", "head.json", "validation_predictions.csv", "search.csv"} <= files for files in seen
    )
    assert load_run(result.run).record.metrics
    assert not list(path.glob("*.png"))


def test_evaluate(run, no_ink, tmp_path):
    path, report = tmp_path / "run", Reporter()
    shutil.copytree(run, path)
    evaluate(path)
    seen = no_ink(lambda: (read_evaluation(path).evaluation_number, names(path)))
    result = evaluate(path, report=report)
    assert len(report.of_pictures()) == len(seen) == 3
    assert all(number == 2 and "test_predictions.csv" in files for number, files in seen)
    assert result.confusion is result.reliability is result.mistakes is None
    assert {"confusion.png", "reliability.png", "mistakes.png"}.isdisjoint(names(path))


@needs_cleanlab
def test_label_errors(cache, no_ink, tmp_path):
    report = Reporter()
    seen = no_ink(lambda: names(tmp_path / "out"))
    result = label_errors(cache, folds=3, device="cpu", out=tmp_path / "out", report=report)
    assert seen == [{"label-errors.csv"}]
    assert len(report.of_pictures()) == 1
    assert result.found
    assert result.picture is None
    assert result.table.exists()


def test_check_cache(cache, no_ink, tmp_path):
    report = Reporter()
    no_ink(lambda: None)
    result = check_cache(cache, threshold=0.5, out=tmp_path / "out", report=report)
    assert len(report.of_pictures()) == 1
    assert result.near
    assert result.picture is None


@pytest.mark.parametrize(
    ("stage", "options"), [(few_shot, {"shots": [1], "episodes": 2}), (learning_curve, {})]
)
def test_sample_sizes(stage, options, cache, no_ink, tmp_path):
    path, report = tmp_path / "out", Reporter()
    seen = no_ink(lambda: unpublished(path))
    stage(cache, "centroid", out=path, report=report, **options)
    name = stage.__name__.replace("_", "-")
    assert seen == [{f"{name}.json", f"{name}.csv"}]
    assert len(report.of_pictures()) == 1
    assert json.loads((path / f"{name}.json").read_text())


def test_finetune(ten_digits, no_ink, tmp_path):
    path, report = tmp_path / "run", Reporter()
    seen = no_ink(lambda: unpublished(path))
    finetune(ten_digits, run=path, report=report, **QUIET, recipe=Recipe(**{**SMALL, "epochs": 1}))
    assert len(seen) == len(report.of_pictures()) == 1
    assert {"run.json", "backbone.safetensors", "head.json", HISTORY, "validation_predictions.csv"} <= seen[0]
    assert load_run(path).record.metrics


@needs_plotly
def test_report(run, monkeypatch, tmp_path):
    def fail(*_args):
        raise RuntimeError("no ink\nat all")

    monkeypatch.setattr("frostline.pipeline.studies.html_report.figures.confusion", fail)
    monkeypatch.setattr("frostline.pipeline.studies.html_report.page.data_uri", fail)
    report = Reporter()
    text = write_report([run], tmp_path / "r.html", report=report).path.read_text("utf-8")
    assert len(report.of_pictures()) >= 2
    assert "Leaderboard" in text
    assert "Reliability" in text
    assert "most confident" in text


def test_settings_of_the_current_folder_change_no_picture(tmp_path):
    def draw(path):
        plot_confusion(np.eye(2, dtype=np.int64), ["a", "b"], path, title="t")

    plain = drawn(tmp_path / "plain.png", draw, SILENT)
    with mpl.rc_context({"text.usetex": True, "figure.facecolor": "red", "font.size": 30}):
        changed = drawn(tmp_path / "changed.png", draw, SILENT)
        assert mpl.rcParams["text.usetex"]
    assert changed.read_bytes() == plain.read_bytes()
