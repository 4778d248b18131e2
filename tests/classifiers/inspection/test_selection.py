"""Rows to label are those of plain computations, whatever the size of the blocks."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import entropy
from sklearn.cluster import KMeans

from frostline.classifiers.errors import HeadError
from frostline.classifiers.inspection import selection
from frostline.classifiers.inspection.selection import doubts, k_centres, rows_to_label


def plain_k_centres(X, rows, centres, count, first=None):
    """The greedy algorithm with all distances in a matrix; X as it is compared."""
    D = cdist(X, X)
    chosen = [first] if first is not None else []
    while len(chosen) < count:
        left = np.setdiff1d(rows, chosen)
        far = D[np.ix_(left, [*centres, *chosen])].min(axis=1)
        chosen.append(int(left[far.argmax()]))
    return chosen


@pytest.fixture(name="X")
def _vectors():
    rng = np.random.default_rng(0)
    return (rng.normal(size=(300, 6)) + 4 * rng.normal(size=(12, 6))[rng.integers(0, 12, 300)]).astype(
        np.float32
    )


@pytest.mark.parametrize("step", [7, 2048])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_k_centres_are_those_of_the_plain_algorithm(X, metric, step, monkeypatch):
    monkeypatch.setattr(selection, "_STEP", step)
    centres, rows = np.arange(0, 300, 30), np.setdiff1d(np.arange(300), np.arange(0, 300, 30))
    mean = X.mean(axis=0, dtype=np.float64) if metric == "cosine" else None
    Y = X.astype(float)
    if mean is not None:
        Y = X - mean.astype(np.float32)
        Y = Y / np.linalg.norm(Y, axis=1, keepdims=True)
    done = []
    found = k_centres(X, rows, centres, 60, metric=metric, centre=mean, device="cpu", advance=done.append)
    assert found.rows.tolist() == plain_k_centres(Y, rows, centres, 60)
    gaps = [
        cdist(Y[[row]], Y[[*centres, *found.rows[:i]]]).min() for i, row in enumerate(found.rows.tolist())
    ]
    expected = np.square(gaps) / 2 if metric == "cosine" else np.array(gaps)
    np.testing.assert_allclose(found.distances, expected, atol=1e-6)
    assert (np.diff(found.distances) <= 0).all()
    assert sum(done) == len(rows) + 60


def test_without_labelled_rows_the_first_is_drawn_by_the_seed(X):
    rows = np.arange(300)
    drawn = [k_centres(X, rows, rows[:0], 20, metric="euclidean", seed=seed) for seed in (0, 0, 1)]
    assert drawn[0].rows.tolist() == drawn[1].rows.tolist() != drawn[2].rows.tolist()
    first = int(drawn[0].rows[0])
    assert drawn[0].rows.tolist() == plain_k_centres(X.astype(float), rows, [], 20, first)
    assert drawn[0].distances[0] == np.inf
    assert np.isfinite(drawn[0].distances[1:]).all()


def test_equal_rows_are_chosen_once_each_and_the_first_one_first():
    X = np.ones((6, 3), np.float32)
    found = k_centres(X, np.arange(1, 6), np.array([0]), 5, metric="euclidean")
    assert found.rows.tolist() == [1, 2, 3, 4, 5]
    assert found.distances.tolist() == [0] * 5
    with pytest.raises(HeadError, match="got 6, expected 0 to 5"):
        k_centres(X, np.arange(1, 6), np.array([0]), 6)


def test_few_distances_are_computed(X, monkeypatch):
    """Rows near a centre are not compared with later centres; the plain algorithm computes all of them."""
    compared = []
    nearest = selection.RowSearch.nearest

    def counted(self, queries, k):
        compared.append(len(queries) * len(self._base))
        return nearest(self, queries, k)

    monkeypatch.setattr(selection.RowSearch, "nearest", counted)
    monkeypatch.setattr(selection, "_STEP", 8)
    rows = np.arange(20, 300)
    k_centres(X, rows, np.arange(20), 100, metric="euclidean", device="cpu")
    assert sum(compared) < len(rows) * (20 + 99) * 0.7


def test_doubts_are_those_of_scipy():
    proba = np.random.default_rng(0).dirichlet(np.ones(4) / 2, 50)
    proba[0] = [1, 0, 0, 0]
    top = np.sort(proba, axis=1)
    np.testing.assert_allclose(doubts(proba, "margin"), 1 - (top[:, -1] - top[:, -2]))
    np.testing.assert_allclose(doubts(proba, "entropy"), entropy(proba, axis=1))
    assert doubts(proba, "margin")[0] == doubts(proba, "entropy")[0] == 0
    assert doubts(np.ones((3, 1)), "margin").tolist() == [0, 0, 0]


def test_rules(X):
    rng = np.random.default_rng(1)
    labelled, rows = np.arange(20), np.arange(20, 300)
    doubt = np.round(rng.random(280), 2)  # with equal values
    order = sorted(range(280), key=lambda i: (-doubt[i], i))
    least = rows_to_label(X, rows, labelled, 15, "uncertainty", doubt=doubt)
    assert least.rows.tolist() == rows[order[:15]].tolist()
    assert np.isnan(least.distances).all()
    coreset = rows_to_label(X, rows, labelled, 15, "coreset", metric="euclidean")
    assert coreset.rows.tolist() == plain_k_centres(X.astype(float), rows, labelled, 15)
    with pytest.raises(HeadError, match="needs the doubt"):
        rows_to_label(X, rows, labelled, 15, "both")


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_both_takes_the_most_uncertain_row_of_each_cluster(X, metric):
    rng = np.random.default_rng(1)
    labelled, rows, doubt = np.arange(20), np.arange(20, 300), rng.random(280)
    found = rows_to_label(X, rows, labelled, 12, "both", doubt=doubt, pool=5, metric=metric, seed=2)
    places = np.sort(np.argsort(-doubt)[:60])
    Y = X.astype(float)
    if metric == "cosine":
        Y -= Y.mean(axis=0)
        Y /= np.linalg.norm(Y, axis=1, keepdims=True)
    model = KMeans(12, n_init=1, random_state=2).fit(
        Y[rows[places]].astype(np.float32), sample_weight=doubt[places]
    )
    best = [max(places[model.labels_ == k], key=lambda i: doubt[i]) for k in range(12)]
    assert found.rows.tolist() == rows[sorted(best, key=lambda i: -doubt[i])].tolist()
    assert np.isnan(found.distances).all()


def test_both_fills_up_where_few_rows_differ():
    X = np.repeat(np.eye(2, 4), [10, 10], axis=0).astype(np.float32)
    doubt = np.linspace(1, 0.1, 20)
    found = rows_to_label(X, np.arange(20), np.arange(0), 4, "both", doubt=doubt, metric="euclidean")
    assert found.rows.tolist() == [0, 10, 1, 2]
    every = rows_to_label(X, np.arange(20), np.arange(0), 20, "both", doubt=doubt)
    assert every.rows.tolist() == list(range(20))


def test_suggestions_beat_random_draws_where_a_class_is_rare():
    """Of nine classes one has most images. Random draws rarely show the others; the coreset and both find them.

    The margin is far beyond chance: over seeds, random draws know fewer classes in every case.
    """
    from frostline.classifiers.heads.linear import LinearHead

    gains = {"coreset": [], "both": []}
    for seed in range(4):
        rng = np.random.default_rng(seed)
        sizes = [400, *[12] * 8]
        centres = 6 * rng.normal(size=(9, 16))
        y = np.repeat(np.arange(9), sizes)
        X = (centres[y] + rng.normal(size=(len(y), 16))).astype(np.float32)
        held = np.repeat(np.arange(9), 30)
        test = (centres[held] + rng.normal(size=(len(held), 16))).astype(np.float32)

        def accuracy(rows, X=X, y=y, test=test, held=held):
            head = LinearHead(l2=0.1).fit(X[rows], y[rows])
            return (head.classes_[head.predict_proba(test).argmax(axis=1)] == held).mean(), head

        start = np.concatenate([np.flatnonzero(y == 0)[:5], np.flatnonzero(y == 1)[:1]])
        rows = np.setdiff1d(np.arange(len(y)), start)
        _, head = accuracy(start)
        doubt = doubts(np.asarray(head.predict_proba(X[rows]), float), "margin")
        chance = np.mean([accuracy(np.union1d(start, rng.permutation(rows)[:15]))[0] for _ in range(5)])
        for rule, gain in gains.items():
            chosen = rows_to_label(X, rows, start, 15, rule, doubt=doubt, seed=seed).rows
            gain.append(accuracy(np.union1d(start, chosen))[0] - chance)
    assert min(gains["coreset"]) > 0.15
    assert min(gains["both"]) > 0.15
