"""Hyper-parameters are chosen on validation rows, and no row outside of train and val is ever touched."""

import csv

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from frostline.classifiers import HEADS, LabelledRows, fit_head
from frostline.classifiers.errors import HeadError, SplitError
from frostline.classifiers.heads.catalog import find_head
from frostline.classifiers.protocol.calibration import reliability
from tests.classifiers.fits import Spy, take_options

QUICK = {
    "mlp": {"hidden": (16,), "epochs": 15, "lr": 0.01},
    "forest": {"n_estimators": 10},
    "boosting": {"max_iter": 10},
}


@pytest.fixture(scope="module")
def data(make_blobs):
    return make_blobs(240, 10, 3, separation=1.5)


TRAIN, VAL, TEST = np.arange(120), np.arange(120, 180), np.arange(180, 240)


def fit(name, data, *, train=TRAIN, val=VAL, X=None, y=None, **options):
    X, y = data.X if X is None else X, data.y if y is None else y
    rows = LabelledRows(X, y, train, val, options.pop("classes", data.classes))
    options["params"] = {**QUICK.get(name, {}), **options.get("params", {})}
    return fit_head(name, rows, take_options(options), **options)


@pytest.mark.parametrize("name", HEADS.builtin)
def test_no_row_outside_of_train_and_val_is_read(name, data):
    spy = Spy(data.X)
    poisoned = data.y.copy()
    poisoned[TEST] = 99
    watched = fit(name, data, X=spy, y=poisoned)
    assert spy.read == set(TRAIN.tolist()) | set(VAL.tolist())
    plain = fit(name, data)
    assert np.array_equal(watched.predict_proba(data.X), plain.predict_proba(data.X))


@pytest.mark.parametrize("name", HEADS.builtin)
def test_trials_are_those_candidates_judged_on_validation(name, data):
    head = fit(name, data)
    kind = find_head(name)
    fixed = kind.check(QUICK.get(name, {}))
    candidates = kind.candidates(fixed, len(TRAIN))
    assert [{key: trial[key] for key in candidates[0]} for trial in head.trials] == candidates
    accuracies = [trial["accuracy"] for trial in head.trials]
    best = int(np.argmax(accuracies))  # the first of equals: the strongest regularisation
    assert {key: head.params[key] for key in candidates[0]} == candidates[best]
    assert head.validation["accuracy"] == accuracies[best]
    assert head.validation["log_loss"] <= head.trials[best]["log_loss"] + 0.01
    assert all(trial["converged"] and trial["seconds"] >= 0 for trial in head.trials)
    if kind.search != "epochs":
        slack = 1 / len(VAL) if name == "linear" else 0  # its path may decide a row on the border otherwise
        for candidate, accuracy in zip(candidates, accuracies, strict=True):
            estimator = kind.build(kind.complete({**fixed, **candidate}), 0, "cpu").fit(
                data.X[TRAIN], data.y[TRAIN]
            )
            assert accuracy == pytest.approx(estimator.score(data.X[VAL], data.y[VAL]), abs=slack + 1e-9)


@pytest.mark.parametrize("name", sorted(set(HEADS.builtin) - {"mlp"}))
def test_the_chosen_head_is_fitted_again_to_train_and_val(name, data):
    head = fit(name, data)
    both = np.concatenate([TRAIN, VAL])
    again = clone(head.estimator).fit(data.X[both], data.y[both])
    assert np.array_equal(head.estimator.predict(data.X), again.predict(data.X))
    if name == "linear":
        assert head.estimator.objective_ == pytest.approx(again.objective_, rel=2e-5)


def test_the_mlp_keeps_the_network_that_stopped_early(data):
    head = fit("mlp", data)
    assert (head.predict(data.X[VAL]) == data.y[VAL]).mean() == head.validation["accuracy"]
    assert head.curve.x_label == "epoch"
    assert head.curve.chosen == 1 + np.argmin(head.curve.series["validation loss"])
    assert set(head.curve.series) == {"train loss", "validation loss", "validation accuracy", "lr"}


def test_the_path_is_the_curve(data, tmp_path):
    head = fit("linear", data)
    curve = head.curve
    assert (curve.x_label, curve.log_x, curve.chosen) == ("l2", True, head.params["l2"])
    assert list(curve.x) == sorted(curve.x, reverse=True)
    assert list(curve.series["objective"]) == sorted(curve.series["objective"], reverse=True)
    curve.to_csv(tmp_path / "curve.csv")
    header, *rows = csv.reader((tmp_path / "curve.csv").read_text().splitlines())
    assert header == ["l2", *curve.series]
    assert [float(row[0]) for row in rows] == list(curve.x)
    assert [float(row[1]) for row in rows] == list(curve.series["validation accuracy"])


def test_fixed_parameters_need_no_validation_rows(data):
    head = fit("linear", data, val=np.array([], np.int64), params={"l2": 0.1})
    assert head.params["l2"] == 0.1
    assert (head.validation, head.curve) == ({}, None)
    assert head.trials[0]["accuracy"] is None
    assert (head.predict(data.X[TEST]) == data.y[TEST]).mean() > 0.6
    ridge = fit("ridge", data, val=np.array([], np.int64), params={"alpha": 10})
    assert ridge.temperature == 1
    mlp = fit("mlp", data, val=np.array([], np.int64), params={"weight_decay": 0, "lr": 0.01})
    assert set(mlp.curve.series) == {"train loss", "lr"}
    assert len(mlp.curve.x) == 15


def test_nothing_to_choose_on_is_an_error(data):
    with pytest.raises(SplitError, match=r"no validation rows to choose l2 on; fix it \(--param l2=\.\.\.\)"):
        fit("linear", data, val=np.array([], np.int64))


def test_temperature_calibrates_scores_on_validation(data):
    for name in ("ridge", "svm", "centroid", "linear", "knn"):
        head = fit(name, data)
        assert head.temperature != 1
        assert head.validation["log_loss"] < 0.8 * np.log(3)
        assert head.validation["log_loss"] < head.validation["uncalibrated_log_loss"] + 0.005
        sure, logits = head.predict_proba(data.X[TEST]), head.logits(data.X[TEST])
        assert sure == pytest.approx(softmax(logits / head.temperature, axis=1))
        assert np.array_equal(sure.argmax(axis=1), logits.argmax(axis=1))
        assert reliability(data.y[TEST], sure).rms_calibration_error.value < 0.2


def test_overconfident_head_is_calibrated(make_blobs):
    data = make_blobs(900, 10, 3, separation=0.5)
    train, val, test = np.arange(60), np.arange(60, 400), np.arange(400, 900)
    head = fit("linear", data, train=train, val=val, params={"l2": 1e-6}, refit=False)
    assert head.temperature > 1.5
    probabilities = softmax(head.logits(data.X[test]), axis=1), head.predict_proba(data.X[test])
    before, after = (reliability(data.y[test], each).rms_calibration_error for each in probabilities)
    assert after.high < before.low
    scores = head.validation
    assert scores["rms_calibration_error"] < scores["uncalibrated_rms_calibration_error"] / 2


@pytest.mark.parametrize("name", HEADS.builtin)
def test_class_only_in_validation_is_accepted(name, data):
    y = data.y.copy()
    y[VAL[:3]] = 3
    head = fit(name, data, y=y, classes=(*data.classes, "late"))
    assert head.validation["accuracy"] <= 57 / 60
    learnt = head.predict_proba(data.X)[:, 3].any()
    assert learnt == (name != "mlp")  # the others are fitted again with the validation rows


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_any_float_format_and_memory_maps(dtype, data, tmp_path):
    X = data.X.astype(dtype)
    (tmp_path / "X").write_bytes(X.tobytes())
    mapped = np.memmap(tmp_path / "X", dtype, "r", shape=X.shape)
    for name in ("linear", "ridge"):
        head = fit(name, data, X=mapped)
        assert head.dtype == np.dtype(dtype).name
        assert np.array_equal(head.predict_proba(mapped), fit(name, data, X=X).predict_proba(X))


def test_prediction_in_chunks_changes_nothing(data, monkeypatch):
    head = fit("knn", data)
    whole = head.predict_proba(data.X)
    monkeypatch.setattr("frostline.classifiers.numerics.selected_rows._CHUNK_BYTES", 4 * 10 * 7)
    assert np.array_equal(head.predict_proba(data.X), whole)
    assert head.predict_proba(data.X[:0]).shape == (0, 3)


def test_seeds_repeat(data):
    first, second, other = (fit("mlp", data, seed=seed).predict_proba(data.X) for seed in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_order_of_the_rows_does_not_matter(data):
    mixed = np.random.default_rng(0).permutation(TRAIN)
    assert np.array_equal(
        fit("linear", data, train=mixed).predict_proba(data.X), fit("linear", data).predict_proba(data.X)
    )


def test_progress_counts_candidates(data):
    steps = []
    head = fit("ridge", data, progress=steps.append)
    assert steps == [1] * len(head.trials)


def test_unconverged_candidates_are_recorded_and_unconverged_head_warns(data):
    with pytest.warns(ConvergenceWarning, match="is not within tol") as caught:
        head = fit("linear", data, params={"max_iter": 2, "tol": 0.003})
    assert len(caught) == 1
    assert not all(trial["converged"] for trial in head.trials)


def test_bad_rows_are_refused(data):
    with pytest.raises(SplitError, match=r"1 rows are in train and in val, e\.g\. row 120"):
        fit("linear", data, train=np.arange(121))
    with pytest.raises(SplitError, match="val: got rows 120 to 999, expected 0 to 239"):
        fit("linear", data, val=np.array([120, 999]))
    with pytest.raises(SplitError, match="train: no rows"):
        fit("linear", data, train=np.array([], np.int64))
    with pytest.raises(SplitError, match=r"drop rows without a label \(-1\)"):
        fit("linear", data, y=np.where(np.arange(240) == 5, -1, data.y))
    with pytest.raises(HeadError, match="labels: got shape"):
        fit("linear", data, y=data.y[:100])


def test_rows_are_validated_at_construction_and_division(data):
    rows = LabelledRows(data.X, data.y, TRAIN[::-1], list(VAL), list(data.classes))
    assert (rows.train.tolist(), rows.val.tolist()) == (TRAIN.tolist(), VAL.tolist())
    assert rows.classes == tuple(data.classes)
    other = rows.divided(VAL, TRAIN)
    assert other.X is rows.X
    assert (other.train.tolist(), other.val.tolist()) == (VAL.tolist(), TRAIN.tolist())
    with pytest.raises(SplitError, match="60 rows are in train and in val"):
        rows.divided(VAL, VAL)


def test_bad_features_are_refused(data):
    broken = data.X.copy()
    broken[130, 2] = np.nan
    with pytest.raises(HeadError, match=r"features of row 130 \(and 0 more\) are not finite"):
        fit("linear", data, X=broken)
    with pytest.raises(HeadError, match="got uint16 of shape"):
        fit("linear", data, X=data.X.astype(np.uint16))
    head = fit("linear", data)
    with pytest.raises(HeadError, match=r"features: got shape \(5, 3\), expected \(n, 10\)"):
        head.predict_proba(data.X[:5, :3])
    with pytest.raises(HeadError, match="features of row 130"):
        head.predict_proba(broken)


def test_one_class_is_refused_by_every_head(data):
    for name in HEADS.builtin:
        with pytest.raises(HeadError, match="class"):
            fit(
                name, data, y=np.zeros(240, np.int64), val=np.array([], np.int64), params=_any_candidate(name)
            )


def _any_candidate(name):
    return find_head(name).candidates({}, 100)[0]


def test_scikit_learn_errors_become_head_errors(data):
    with pytest.raises(HeadError, match="n_neighbors: got 500"):
        fit("knn", data, params={"n_neighbors": 500})
