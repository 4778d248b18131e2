"""Heads on the same folds: what is better, and whether that is luck."""

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import NearestCentroid

from frostline.classifiers import compare_heads
from frostline.classifiers.errors import HeadError
from frostline.classifiers.protocol.significance import corrected_resampled_t, holm

HEADS = {"bayes": GaussianNB(), "centroid": NearestCentroid(), "luck": DummyClassifier()}


@pytest.fixture(scope="module")
def found(blobs):
    return compare_heads(blobs.X, blobs.y, HEADS)


def test_accuracies_match_scikit_learn_on_same_folds(found, blobs):
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    for score in found.scores:
        expected = cross_val_score(HEADS[score.head], blobs.X, blobs.y, cv=folds)
        assert score.folds == pytest.approx(expected)
        assert score.accuracy == pytest.approx(expected.mean())
        assert score.low <= score.accuracy <= score.high
        assert min(score.fit_seconds, score.predict_seconds) > 0
    accuracies = [score.accuracy for score in found.scores]
    assert accuracies == sorted(accuracies, reverse=True)


def test_pairs_are_tested_as_paired_and_adjusted(found):
    folds = {score.head: np.array(score.folds) for score in found.scores}
    raw = {}
    for pair in found.pairs:
        test = corrected_resampled_t(folds[pair.better] - folds[pair.worse], 1 / 4)
        raw[pair] = test.pvalue
        assert (pair.pvalue, pair.low, pair.high) == pytest.approx((test.pvalue, test.low, test.high))
        assert pair.difference >= 0
    assert [pair.adjusted for pair in found.pairs] == pytest.approx(holm(list(raw.values())))
    assert len(found.pairs) == 3
    assert all(pair.adjusted < 0.01 for pair in found.pairs if pair.worse == "luck")


def test_head_does_not_differ_from_itself(blobs):
    (pair,) = compare_heads(blobs.X, blobs.y, {"a": GaussianNB(), "b": GaussianNB()}).pairs
    assert (pair.difference, pair.adjusted) == (0, 1)


def test_copies_and_groups_share_a_fold(blobs):
    content = np.random.default_rng(0).integers(0, 256, (300, 16), np.uint8)
    content[150:] = content[:150]
    groups = np.full(300, "", "<U1")
    groups[:40] = "g"
    seen = []

    class Watching(GaussianNB):
        def fit(self, X, y):
            seen.append({row.tobytes() for row in X})
            return super().fit(X, y)

    X = blobs.X.copy()
    X[150:] = X[:150]
    compare_heads(X, blobs.y, {"watching": Watching()}, folds=3, content=content, groups=groups)
    grouped = {row.tobytes() for row in X[:40]}
    assert all(len(rows & grouped) in {0, 40} for rows in seen)
    everything = {row.tobytes() for row in X}
    held = [everything - rows for rows in seen]
    assert sum(map(len, held)) == len(set().union(*held)) == 150  # each image is held out once, with its copy


def test_heads_by_name(blobs):
    found = compare_heads(blobs.X, blobs.y, ["ridge", "centroid"], folds=3, device="cpu")
    assert {row["head"] for row in found.rows()} == {"ridge", "centroid"}
    assert "95% interval" in str(found)
    assert "ridge" in str(found)


def test_a_pandas_table(blobs):
    pytest.importorskip("pandas", reason="needs pandas")
    found = compare_heads(blobs.X, blobs.y, ["ridge", "centroid"], folds=3, device="cpu")
    table = found.to_pandas()
    assert table.loc[found.scores[0].head, "accuracy"] == found.scores[0].accuracy


def test_mismatched_arguments_raise(blobs):
    with pytest.raises(HeadError, match="299 labels"):
        compare_heads(blobs.X, blobs.y[1:], HEADS)
    with pytest.raises(HeadError, match="0 heads"):
        compare_heads(blobs.X, blobs.y, [])
    with pytest.raises(HeadError, match="groups without content"):
        compare_heads(blobs.X, blobs.y, HEADS, groups=np.full(300, "g"))
    with pytest.raises(HeadError, match="folds can't be made"):
        compare_heads(blobs.X, blobs.y, HEADS, folds=1)
