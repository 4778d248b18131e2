"""Runs side by side: what each cost, who is best, and whether that is luck."""

import csv
import io
import json
import shutil

import numpy as np
import pytest

from frostline import cli
from frostline.classifiers.protocol.significance import holm, mcnemar
from frostline.errors import OptionError
from frostline.features.cache import FeatureCache
from frostline.features.spec import MIN_COSINE
from frostline.pipeline import RunError, compare, evaluate, extract, train_head
from frostline.pipeline.runs.predictions import Predictions
from frostline.pipeline.runs.summary import summarise
from frostline.pipeline.studies.leaderboard import SORTS, _front
from tests.helpers.listener import Listener
from tests.helpers.network import BACKBONE
from tests.helpers.runner import run
from tests.helpers.runs import rewrite_record


@pytest.fixture(scope="module")
def runs(few_digits, tmp_path_factory):
    """Three heads on sixty real digits of three classes; the last on two backbones."""
    home = tmp_path_factory.mktemp("runs")
    caches = []
    for name, weights in (("a", "random"), ("b", "random:1")):
        options = {"weights": weights, "cache": home / f"{name}.h5", "batch_size": 8, "device": "cpu"}
        caches.append(extract(few_digits, backbone="timm:test_resnet", **options).cache)
    made = [
        train_head(caches[0], "ridge", run=home / "ridge").run,
        train_head(caches[0], "knn", run=home / "knn").run,
        train_head(caches, "ridge", run=home / "soup", project="pca:8").run,
    ]
    return made, caches


def test_summary_reports_costs(runs):
    (ridge, _, soup), caches = runs
    one, two = summarise(ridge), summarise(soup)
    opened = [FeatureCache.open(path) for path in caches]
    assert one.backbones == (opened[0].spec.backbone,)
    assert two.cost.parameters == 2 * one.cost.parameters > 0
    assert two.cost.gflops == pytest.approx(2 * one.cost.gflops)
    assert (one.cost.width, two.cost.width) == (opened[0].layers[0].dim, 8)
    timings = [cache.timing for cache in opened]
    assert [timing.images for timing in timings] == [60, 60]
    assert two.cost.extraction_seconds == pytest.approx(sum(timing.seconds for timing in timings))
    assert 1 / two.cost.images_per_second == pytest.approx(sum(1 / t.images_per_second for t in timings))
    assert two.cost.total_seconds == pytest.approx(two.cost.extraction_seconds + two.cost.training_seconds)
    assert two.cost.cache_bytes == sum(path.stat().st_size for path in caches)
    assert one.validation.low < one.validation.value < one.validation.high or one.validation.value == 1
    assert one.test is None
    joules = [timing.joules for timing in timings]  # few machines let any user read them
    assert two.cost.joules == (None if None in joules else pytest.approx(sum(joules)))
    assert "cores" in one.cost.machine or "core" in one.cost.machine


def test_unknown_values_are_none(runs, tmp_path):
    (ridge, *_), _ = runs
    moved = tmp_path / "moved"
    moved.mkdir()
    record = json.loads((ridge / "run.json").read_text())
    record["caches"][0]["path"] = str(tmp_path / "gone.h5")
    rewrite_record(moved, record)
    found = summarise(moved)
    assert found.cost.extraction_seconds is found.cost.cache_bytes is found.cost.total_seconds is None
    assert found.predictions("validation") is None
    assert found.cost.parameters > 0
    board = compare([ridge, moved])
    assert [place.pvalue for place in board.places] == [None, None]
    assert "No significance test for moved" in " ".join(board.notes)


def test_best_run_is_tested_against_others_on_the_same_rows(runs):
    made, _ = runs
    board = compare(made)
    assert board.split == "validation"
    accuracies = [place.accuracy.value for place in board.places]
    assert accuracies == sorted(accuracies, reverse=True)
    best = Predictions.read(board.best.summary.run.path / "validation_predictions.csv")
    others = [place for place in board.places if not place.is_best]
    raw = [
        mcnemar(
            best.correct, Predictions.read(p.summary.run.path / "validation_predictions.csv").correct
        ).pvalue
        for p in others
    ]
    assert [place.pvalue for place in others] == pytest.approx(holm(raw).tolist())
    assert board.best.pvalue is None


def test_test_split_is_used_only_if_every_run_was_evaluated(runs):
    made, _ = runs
    with pytest.raises(RunError, match="3 of 3 runs"):
        compare(made, on="test")
    assert not any((run / "ledger.jsonl").exists() for run in made)
    evaluate(made[0])
    assert compare(made).split == "validation"
    evaluate(made[1])
    board = compare(made[:2])
    assert board.split == "test"
    assert board.best.accuracy == board.best.summary.test
    assert compare(made[:2], on="validation").split == "validation"


def test_pareto_front():
    scores, costs = [0.9, 0.8, 0.9, None, 0.95, 0.7], [2.0, 1.0, 3.0, 0.1, None, 1.0]
    assert _front(scores, costs) == [True, True, False, False, False, False]
    assert _front([0.5, 0.5], [1, 1]) == [True, True]


def test_formats_agree(runs):
    made, _ = runs
    document = json.loads(run("compare", *made, "--format", "json", "--quiet", "--on", "validation").stdout)
    lines = list(
        csv.DictReader(io.StringIO(run("compare", *made, "--format", "csv", "--on", "validation").stdout))
    )
    assert [line["run"] for line in lines] == [each["run"] for each in document["runs"]]
    assert float(lines[0]["validation"]) == document["runs"][0]["validation"]
    markdown = run("compare", *made, "--format", "markdown", "--on", "validation").stdout.splitlines()
    assert markdown[1].startswith("| --- |")
    assert len(markdown[2].split("|")) == len(markdown[0].split("|"))
    table = run("compare", *made, "--on", "validation").stdout
    assert "Compared on validation" in table
    assert "best" in table


@pytest.mark.parametrize("sort", SORTS)
def test_sort_orders(runs, sort):
    made, _ = runs
    places = compare(made, sort=sort, on="validation").places
    key = {"accuracy": "validation"}.get(sort, SORTS[sort][0])
    records = compare(made, sort=sort, on="validation").records()
    values = [record[key] for record in records if record[key] is not None]
    assert values == sorted(values, reverse=SORTS[sort][1])
    assert len(places) == 3


def test_command_lists_every_sort_order():
    (option,) = [each for each in cli.main.commands["compare"].params if each.name == "sort"]
    assert list(option.type.choices) == list(SORTS)


def test_invalid_arguments_are_refused(runs, tmp_path):
    made, _ = runs
    for arguments, problem in (
        ([], "no runs"),
        ([made[0], made[0]], "twice"),
        ([tmp_path], "not a run directory"),
    ):
        with pytest.raises(RunError, match=problem):
            compare(arguments)
    with pytest.raises(OptionError, match="sort: got 'beauty', expected one of accuracy"):
        compare(made, sort="beauty")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("evaluation.json", ""),
        ("evaluation.json", "{"),
        ("run.json", ""),
        ("run.json", "{}"),
        ("validation_predictions.csv", "id,label\n1,2\n"),
    ],
)
def test_run_with_a_damaged_file_is_left_out(runs, tmp_path, file, text):
    (ridge, knn, _), _ = runs
    damaged = shutil.copytree(knn, tmp_path / "damaged")
    evaluate(damaged)
    (damaged / file).write_text(text)
    report = Listener()
    board = compare([ridge, damaged], report=report)
    assert [place.summary.run.path for place in board.places] == [ridge]
    (warning,) = report.warnings
    assert str(damaged / file) in warning
    assert "\n" not in warning
    assert f"Left out, because a file of the run is damaged: {damaged}." in board.notes
    with pytest.raises(RunError, match=file):
        compare([damaged])


def test_folder_that_is_no_run_is_refused_beside_runs(runs, tmp_path):
    (ridge, *_), _ = runs
    with pytest.raises(RunError, match="is not a run directory"):
        compare([ridge, tmp_path])


def test_predictions_round_trip(tmp_path):
    path = tmp_path / "predictions.csv"
    classes = ("a, b", 'c"d', "é\n")
    ids = np.array(["x/1.png", "x,2.png", "3"])
    written = Predictions.of(
        ids, np.array([0, 1, 2]), np.array([0, 2, 2]), np.array([0.5, 0.25, 1.0]), classes
    )
    path.write_bytes(written.encode())
    found = Predictions.read(path)
    assert found.ids.tolist() == ids.tolist()
    assert found.labels.tolist() == list(classes)
    assert found.correct.tolist() == [True, False, True]
    assert found.probability.tolist() == [0.5, 0.25, 1.0]
    path.write_text("id,label\n1,2\n")
    with pytest.raises(RunError, match="no column 'predicted'"):
        Predictions.read(path)
    assert Predictions.read(tmp_path / "none.csv") is None


@pytest.mark.usefixtures("cpu")
def test_compare_notes_different_computations(ten_digits, eager_run, tmp_path):
    done = extract(ten_digits, cache=tmp_path / "c.h5", engine="eager", precision="bf16", **BACKBONE)
    run = train_head(done.cache, "linear", params={"l2": 0.1}, run=tmp_path / "run").run
    (note,) = [each for each in compare([eager_run, run]).notes if "different ways" in each]
    assert "eager bf16 on cpu; eager fp32 on cpu" in note
    assert f"at least {MIN_COSINE}" in note
    assert not any("different ways" in each for each in compare([eager_run]).notes)
