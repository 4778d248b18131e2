"""Leaks are found, all of them, and nothing else; certain ones are refused, doubtful ones shown."""

import hashlib

import numpy as np
import pytest

from frostline.classifiers.errors import SplitError
from frostline.classifiers.inspection.duplicates import (
    check_leaks,
    conflicting_labels,
    exact_duplicates,
    groups_across,
    near_duplicates,
)
from frostline.splits import Split

TRAIN, VAL, TEST = 1, 2, 3


def contents(names):
    digests = [hashlib.blake2b(name.encode(), digest_size=16).digest() for name in names]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16)


def codes(*values):
    return np.array(values, np.uint8)


def lists(arrays):
    return [array.tolist() for array in arrays]


def test_equal_bytes_in_two_splits():
    content = contents("abacabdd")
    split = codes(TRAIN, TRAIN, TEST, VAL, 0, TRAIN, VAL, TEST)
    assert lists(exact_duplicates(content, split)) == [[0, 2], [6, 7]]
    assert exact_duplicates(content[:0], split[:0]) == []


@pytest.mark.parametrize("kind", ["U", "S"])
def test_groups_in_two_splits(kind):
    groups = np.array(["", "p1", "p2", "p1", "", "p2", "p3", "p3"]).astype(kind)
    assert lists(groups_across(groups, codes(1, 1, 1, 2, 3, 1, 3, 0))) == [[1, 3]]


def test_equal_bytes_with_different_labels():
    assert lists(conflicting_labels(contents("aabbcc"), np.array([0, 1, 2, 2, 1, -1]))) == [[0, 1]]


def slow_pairs(X, split, threshold):
    centred = X.astype(float) - X[split == TRAIN].astype(float).mean(axis=0).astype(np.float32)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    cosine = unit @ unit.T
    a, b = np.nonzero((cosine >= threshold) & (split[:, None] < split) & (split[:, None] != Split.NONE))
    order = np.lexsort((b, a, -cosine[a, b].round(12)))
    return a[order], b[order], cosine[a, b][order]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("memory_bytes", [2**14, 2**28])
def test_near_duplicates_are_all_pairs_above_the_threshold(dtype, memory_bytes):
    rng = np.random.default_rng(0)
    X = (3 + rng.normal(size=(30, 12))[rng.integers(0, 30, 150)] + 0.3 * rng.normal(size=(150, 12))).astype(
        dtype
    )
    split = rng.integers(0, 4, 150).astype(np.uint8)
    X[split == Split.NONE] = np.nan  # unreadable images are in no split
    found = near_duplicates(X, split, threshold=0.8, memory_bytes=memory_bytes)
    a, b, cosine = slow_pairs(np.nan_to_num(X), split, 0.8)
    assert len(a) > 50
    np.testing.assert_array_equal(found.rows_a, a)
    np.testing.assert_array_equal(found.rows_b, b)
    np.testing.assert_allclose(found.cosine, cosine, atol=1e-12)
    assert found.complete

    best = near_duplicates(X, split, threshold=0.8, max_pairs=20, memory_bytes=memory_bytes)
    np.testing.assert_array_equal(best.rows_a, a[:20])
    np.testing.assert_array_equal(best.rows_b, b[:20])
    assert not best.complete


def test_equal_features_have_cosine_one_at_any_threshold():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 8)).astype(np.float32)
    X[30] = X[3]
    split = codes(*[TRAIN] * 20, *[TEST] * 20)
    found = near_duplicates(X, split, threshold=1)
    assert (found.rows_a.tolist(), found.rows_b.tolist(), found.cosine.tolist()) == ([3], [30], [1])


def test_a_common_offset_makes_no_near_duplicates():
    """Raw cosines of these rows are all above 0.99."""
    X = 100 + np.random.default_rng(0).normal(size=(200, 50))
    split = np.tile(codes(TRAIN, TEST), 100)
    assert not near_duplicates(X, split, threshold=0.8).cosine.size


def test_single_split_has_no_leaks():
    found = near_duplicates(np.ones((3, 2)), codes(1, 1, 0))
    assert found.complete
    assert found.cosine.shape == (0,)


@pytest.mark.parametrize("options", [{"threshold": 1.01}, {"threshold": -1}, {"max_pairs": 0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(SplitError, match="expected as many codes"):
        near_duplicates(np.eye(3), codes(1, 2, 3), **options)


def leaky():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(12, 16)).astype(np.float32)
    X[9] = X[2] + 0.01
    return {
        "split": codes(1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3),
        "content": contents("abcdefghijkl"),
        "groups": np.array([""] * 12),
        "labels": np.arange(12) % 2,
        "classes": ("ant", "bee"),
    }, X


def test_a_clean_data_set_is_clean():
    arrays, X = leaky()
    report = check_leaks(**arrays)
    assert report.clean
    assert report.near is None
    report = check_leaks(**arrays, X=X)
    assert not report.refusals
    assert report.near is not None
    assert (report.near.rows_a.tolist(), report.near.rows_b.tolist()) == ([2], [9])
    assert "1 pairs of images in different splits are nearly equal" in report.warnings[0]


def test_certain_leaks_are_refused():
    arrays, _ = leaky()
    arrays["content"] = contents("abcdefghijka")
    arrays["groups"] = np.array(["g", "", "", "", "", "g", "", "", "", "", "", ""])
    report = check_leaks(**arrays)
    assert [refusal.split(";")[0] for refusal in report.refusals] == [
        "1 image is (2 rows, e.g. 0, 11) in more than one split",
        "1 group is (2 rows, e.g. 0, 5) in more than one split",
    ]
    assert lists(report.exact) == [[0, 11]]
    assert lists(report.groups) == [[0, 5]]
    assert "labelled differently" in report.warnings[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("content", np.zeros((12, 8), np.uint8)),
        ("labels", np.zeros(11, int)),
        ("labels", np.full(12, 2)),
        ("split", np.full(12, 4, np.uint8)),
        ("groups", np.array([""])),
    ],
)
def test_arrays_that_do_not_fit_are_refused(name, value):
    arrays, _ = leaky()
    with pytest.raises(SplitError, match="expected"):
        check_leaks(**{**arrays, name: value})
