"""Searches: reproducible, resumable, and blind to every row that is not in a fold."""

import json
import os
import signal
import sys

import numpy as np
import pytest

from frostline.classifiers import FitOptions, LabelledRows
from frostline.classifiers.errors import HeadError, ProcessError
from frostline.classifiers.fitting import search
from frostline.classifiers.fitting.fit import score_candidates
from frostline.classifiers.fitting.journal import in_parallel
from frostline.classifiers.fitting.search import SearchPlan, search_head
from frostline.classifiers.heads import linear
from frostline.classifiers.heads.catalog import find_head
from tests.classifiers.fits import Spy, take_options
from tests.helpers.needs import needs_optuna

TRAIN, VAL, TEST = np.arange(120), np.arange(120, 180), np.arange(180, 240)
SPLIT = [(TRAIN, VAL)]


@pytest.fixture(scope="module")
def data(make_blobs):
    return make_blobs(240, 8, 3, separation=0.7)


def run(data, plan, *, head="ridge", folds=SPLIT, X=None, y=None, **options):
    X, y = data.X if X is None else X, data.y if y is None else y
    rows = LabelledRows(X, y, *folds[0], data.classes)
    return search_head(head, rows, plan, take_options(options), folds=folds, **options)


def scores(found):
    return [{key: value for key, value in trial.items() if key != "seconds"} for trial in found.trials]


PLANS = [
    SearchPlan("grid"),
    SearchPlan("random", 5),
    SearchPlan("halving", 9),
    pytest.param(SearchPlan("optuna", 5), marks=needs_optuna),
]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.method)
@pytest.mark.parametrize("cv", [False, True])
def test_only_rows_and_labels_of_folds_are_read(plan, cv, data):
    half = np.arange(180) % 2 == 0
    folds = [(np.flatnonzero(half), np.flatnonzero(~half)), (np.flatnonzero(~half), np.flatnonzero(half))]
    folds = folds if cv else SPLIT
    spy, poisoned = Spy(data.X), data.y.copy()
    poisoned[TEST] = 99
    watched = run(data, plan, folds=folds, X=spy, y=poisoned)
    assert spy.read
    assert spy.read <= set(range(180))
    assert scores(watched) == scores(run(data, plan, folds=folds))


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.method)
def test_the_best_of_the_trials_on_all_rows_is_chosen(plan, data):
    found = run(data, plan)
    whole = [trial for trial in found.trials if trial["share"] == 1]
    best = max(whole, key=lambda trial: (trial["accuracy"], -trial["log_loss"]))
    assert found.params == {"alpha": best["alpha"]}
    assert all(1 <= trial["alpha"] <= 1e5 for trial in found.trials)
    if plan.method != "halving":
        assert len(found.trials) == (plan.trials or len(find_head("ridge").candidates({}, 1)))


def test_a_trial_is_the_mean_over_folds(data):
    folds = [(TRAIN, VAL), (np.concatenate([TRAIN[:60], VAL]), TRAIN[60:])]
    both = run(data, SearchPlan("grid"), folds=folds)
    single = [run(data, SearchPlan("grid"), folds=[fold]) for fold in folds]
    for place, trial in enumerate(both.trials):
        expected = np.mean([found.trials[place]["accuracy"] for found in single])
        assert trial["accuracy"] == pytest.approx(expected)


def test_seed_determines_draws(data):
    one, same, other = (run(data, SearchPlan("random", 6), seed=seed) for seed in (1, 1, 2))
    assert scores(one) == scores(same)
    assert [trial["alpha"] for trial in one.trials] != [trial["alpha"] for trial in other.trials]


def test_results_do_not_depend_on_processes(data):
    assert scores(run(data, SearchPlan("random", 4, jobs=2))) == scores(run(data, SearchPlan("random", 4)))


def test_interrupted_path_search_gives_same_results(data, tmp_path, monkeypatch):
    monkeypatch.setattr(search, "_TOGETHER", 5)
    folds = [(TRAIN, VAL), (VAL, TRAIN)]
    whole = run(data, SearchPlan("random", 12), head="linear", folds=folds, journal=tmp_path / "search")
    lines = whole.journal.read_bytes().splitlines(keepends=True)
    whole.journal.write_bytes(b"".join(lines[:6]))  # as a kill leaves it, amid the second path
    again = run(data, SearchPlan("random", 12), head="linear", folds=folds, journal=tmp_path / "search")
    assert again.resumed == 6
    assert scores(again) == scores(whole)
    # Each is within its tolerance, 20 x 1e-5 of the objective, of what it is alone. Under a weaker penalty, coefficients
    # that predict unlike validation rows have the same objective up to the rounding of float32.
    rows = LabelledRows(data.X, data.y, TRAIN, VAL, data.classes)
    determined = [trial for trial in whole.trials if trial["l2"] > 1e-5]
    assert len(determined) > 6
    for trial in determined:
        alone = [
            score_candidates("linear", rows.divided(*fold), [{"l2": trial["l2"]}], FitOptions(device="cpu"))
            for fold in folds
        ]
        assert trial["log_loss"] == pytest.approx(np.mean([each["log_loss"] for (each,) in alone]), rel=0.01)


def test_a_path_keeps_the_other_parameters_of_each_candidate(data):
    rows = LabelledRows(data.X, data.y, TRAIN, VAL, data.classes)
    candidates = [{"l2": l2, "scale": scale} for scale in ("standard", "none") for l2 in (1.0, 0.1)]
    together = score_candidates("linear", rows, candidates, FitOptions(device="cpu"))
    for scale, found in (("standard", together[:2]), ("none", together[2:])):
        options = FitOptions(params={"scale": scale}, device="cpu")
        alone = score_candidates("linear", rows, [{"l2": 1.0}, {"l2": 0.1}], options)
        assert [each["log_loss"] for each in found] == [each["log_loss"] for each in alone]


def test_fold_is_loaded_once_for_all_strengths(data, monkeypatch):
    brought = []
    standardise = linear.standardise
    monkeypatch.setattr(
        linear, "standardise", lambda *a, **k: brought.append(len(a[0])) or standardise(*a, **k)
    )
    run(data, SearchPlan("random", 12), head="linear", folds=[(TRAIN, VAL), (VAL, TRAIN)])
    assert brought == [len(TRAIN), len(VAL)]


def test_halving_drops_two_thirds_and_trebles_the_rows(make_blobs):
    data = make_blobs(400, 4, 2)
    found = run(data, SearchPlan("halving", 9), folds=[(np.arange(300), np.arange(300, 400))])
    rungs = [[trial for trial in found.trials if trial["share"] == share] for share in (1 / 9, 1 / 3, 1)]
    assert [len(rung) for rung in rungs] == [9, 3, 1]
    kept = sorted(rungs[0], key=lambda trial: (-trial["accuracy"], trial["log_loss"]))[:3]
    assert [trial["alpha"] for trial in rungs[1]] == [trial["alpha"] for trial in kept]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.method)
def test_interrupted_search_resumes(plan, data, tmp_path, monkeypatch):
    whole = run(data, plan)
    calls = []

    def killed(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return score(*arguments)

    score = search._score
    monkeypatch.setattr(search, "_score", killed)
    with pytest.raises(KeyboardInterrupt):
        run(data, plan, journal=tmp_path / "search")
    (file,) = tmp_path.iterdir()
    with file.open("ab") as torn:
        torn.write(b'{"candidate": "cut o')
    before = len(calls)
    again = run(data, plan, journal=tmp_path / "search")
    assert scores(again) == scores(whole)
    assert again.resumed == 3
    assert len(calls) - before == len(whole.trials) - 3
    assert again.journal == file
    assert all(json.loads(line) for line in file.read_text().splitlines())
    assert run(data, plan, journal=tmp_path / "search").resumed == len(whole.trials)


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"key": "other features"}, {"params": {"class_weight": "balanced"}}, {"head": "logreg"}],
)
def test_journal_of_other_arguments_is_ignored(change, data, tmp_path):
    run(data, SearchPlan("grid"), journal=tmp_path / "search")
    assert run(data, SearchPlan("grid"), journal=tmp_path / "search", **change).resumed == 0
    other = data.y.copy()
    other[0] = (other[0] + 1) % 3
    assert run(data, SearchPlan("grid"), y=other, journal=tmp_path / "search").resumed == 0


def test_invalid_search_raises(data, monkeypatch):
    with pytest.raises(HeadError, match="nothing to search"):
        run(data, SearchPlan("grid"), params={"alpha": 1.0})
    with pytest.raises(HeadError, match="grid of head 'ridge' has 6 points"):
        run(data, SearchPlan("grid", 5))
    with pytest.raises(HeadError, match="expected one of grid"):
        SearchPlan("magic")
    with pytest.raises(HeadError, match="expected at least 1"):
        SearchPlan("random", 0)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(HeadError, match=r"pip install 'frostline\[optuna\]'"):
        run(data, SearchPlan("optuna", 2))


def end_of_its_process(_number):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(os.name == "nt", reason="kills by a signal")
def test_a_killed_process_is_named_with_a_remedy():
    with pytest.raises(ProcessError, match=r"a process was killed.*the memory ran out.*a lower --jobs"):
        list(in_parallel(end_of_its_process, [(0,), (1,)], 2))
