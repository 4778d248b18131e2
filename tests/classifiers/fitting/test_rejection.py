"""Distances are those of the nearest training row, and the threshold keeps its promise on held-out digits."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from frostline.classifiers.errors import HeadError
from frostline.classifiers.fitting import rejection
from frostline.classifiers.fitting.rejection import Rejection, fit_rejection


def cosine_distances(X, base):
    X, base = (each.astype(np.float64) for each in (X, base))
    return 1 - (X @ base.T) / np.outer(np.linalg.norm(X, axis=1), np.linalg.norm(base, axis=1))


def of_distances(values):
    return Rejection(np.zeros(1, np.float32), np.ones((1, 1), np.float16), np.sort(np.asarray(values, float)))


@pytest.fixture(scope="module")
def planted():
    """Features of 300 rows, whose mean is large, in three classes; rows are train, val and others."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    X = (50 + rng.normal(size=(3, 24))[labels] + 0.1 * rng.normal(size=(300, 24))).astype(np.float32)
    return X, labels, np.arange(150), np.arange(150, 250)


def test_distance_is_that_of_the_nearest_training_row(planted):
    X, labels, train, val = planted
    fitted = fit_rejection(X, labels, train, val, device="cpu")
    expected = cosine_distances(X, X[train]).min(axis=1)
    # Training rows are stored as float16 differences from their mean, although their distances are about 1e-5.
    np.testing.assert_allclose(fitted.measure(X[150:], device="cpu"), expected[150:], rtol=0.01)
    assert fitted.measure(X, train, device="cpu").max() < 1e-9
    np.testing.assert_allclose(fitted.distances, np.sort(expected[val]), rtol=0.01)
    with pytest.raises(HeadError, match=r"got 23 per row, expected 24"):
        fitted.measure(X[:, 1:])


def test_new_vectors_get_the_distances_by_which_the_threshold_was_set(planted):
    X, labels, train, val = planted
    fitted = fit_rejection(X, labels, train, val, device="cpu")
    one_by_one = [fitted.measure(X[row : row + 1], device="cpu")[0] for row in val]
    np.testing.assert_allclose(np.sort(one_by_one), fitted.distances, rtol=1e-9)


def test_the_reference_is_a_sample_of_bounded_size(planted, monkeypatch):
    X, labels, train, val = planted
    monkeypatch.setattr(rejection, "_MOST_VALUES", 24 * 40)
    monkeypatch.setattr(rejection, "MOST_DISTANCES", 30)
    fitted = fit_rejection(X, labels, train, val, seed=3, device="cpu")
    assert fitted.rows.shape == (40, 24)
    assert fitted.distances.shape == (30,)
    own = np.linalg.norm(fitted.reference, axis=1)
    np.testing.assert_allclose(own, 1, atol=1e-4)
    again = fit_rejection(X, labels, train, val, seed=3, device="cpu")
    assert (again.rows == fitted.rows).all()


@pytest.mark.parametrize("count", [1, 19, 20, 99, 100, 324])
@pytest.mark.parametrize("rate", ["0.5", "0.1", "0.05", "0.01", "0.3"])
def test_threshold_has_the_conformal_rank(count, rate):
    values = np.arange(1, count + 1)
    rank = math.ceil((count + 1) * (1 - Fraction(rate)))
    if rank > count:
        with pytest.raises(
            HeadError, match=rf"at least {math.ceil(1 / Fraction(rate)) - 1} validation images"
        ):
            of_distances(values).threshold(float(rate))
    else:
        assert of_distances(values).threshold(float(rate)) == rank


def test_the_refusal_names_a_rate_that_is_accepted():
    few = of_distances(np.arange(12))
    with pytest.raises(HeadError, match="choose at least") as caught:
        few.threshold(0.01)
    assert few.threshold(float(str(caught.value).split("at least ")[-1].split(",")[0])) == 11
    for rate in (0.0, 1.0, math.nan):
        with pytest.raises(HeadError, match="above 0 and below 1"):
            few.threshold(rate)


def test_exchangeable_images_are_rejected_at_the_stated_rate():
    rng = np.random.default_rng(0)
    rejected = [of_distances(rng.random(59)).threshold(0.1) < rng.random() for _ in range(4000)]
    assert binom.ppf(0.001, 4000, 0.1) <= sum(rejected) <= binom.ppf(0.999, 4000, 0.1)


@pytest.mark.parametrize("held", [0, 4, 6])
def test_a_held_out_digit_is_rejected_far_more_often_than_the_known_ones(held):
    X, y = load_digits(return_X_y=True)
    X = X.astype(np.float32)
    rng = np.random.default_rng(held)
    train, val, test = np.split(rng.permutation(np.flatnonzero(y != held)), [900, 1250])
    fitted = fit_rejection(X, y, train, val, device="cpu")
    known, strange = (fitted.measure(X, rows, device="cpu") for rows in (test, np.flatnonzero(y == held)))
    limit = fitted.threshold(0.05)
    # The rate varies with the draws of both the validation and the test images.
    deviation = math.sqrt(0.05 * 0.95 * (1 / len(val) + 1 / len(test)))
    assert abs((known > limit).mean() - 0.05) <= 3.5 * deviation
    assert (
        roc_auc_score(np.repeat([0, 1], [len(known), len(strange)]), np.concatenate([known, strange])) > 0.9
    )
    assert (strange > limit).mean() > 0.6
