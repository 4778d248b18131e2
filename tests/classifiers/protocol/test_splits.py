"""Splits that a growing data set keeps, and the report on them."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frostline.classifiers.errors import SplitError
from frostline.classifiers.protocol.splits import assign_splits, check_splits, missing_classes
from frostline.splits import SPLIT_NAMES, SPLITS, Split


def test_codes_and_names_are_those_that_caches_and_runs_store():
    assert [(split.name, int(split)) for split in Split] == [
        ("NONE", 0),
        ("TRAIN", 1),
        ("VAL", 2),
        ("TEST", 3),
    ]
    assert SPLIT_NAMES == ("none", "train", "val", "test")
    assert SPLITS == ("", "train", "val", "test")


def digests(keys):
    return np.array(
        [list(hashlib.blake2b(str(key).encode(), digest_size=16).digest()) for key in keys], np.uint8
    )


def undeclared(n):
    return np.zeros(n, np.uint8)


def no_groups(n):
    return np.zeros(n, "S1")


def split_of(keys, groups=None, **options):
    n = len(keys)
    groups = no_groups(n) if groups is None else np.array(groups)
    return assign_splits(undeclared(n), digests(keys), groups, **options)


def test_golden_assignment():
    # These must never change: they are where users' images already are.
    assert split_of(range(12)).tolist() == [1, 1, 1, 1, 2, 3, 1, 1, 3, 1, 1, 1]
    assert split_of(range(4), ["a", "b", "c", "d"]).tolist() == [1, 1, 3, 1]


def test_shares_match_requested_fractions():
    shares = np.bincount(split_of(range(20_000), fractions=(0.5, 0.3, 0.2))) / 20_000
    assert shares[Split.NONE] == 0
    assert shares[1:] == pytest.approx([0.5, 0.3, 0.2], abs=0.015)


def test_growth_and_order_move_no_row():
    keys = list(range(500))
    before = dict(zip(keys, split_of(keys), strict=True))
    grown = [*range(900, 700, -1), *reversed(keys)]
    after = dict(zip(grown, split_of(grown), strict=True))
    assert all(after[key] == before[key] for key in keys)


def test_duplicates_stay_together():
    keys = [i % 100 for i in range(300)]
    split = split_of(keys)
    assert np.array_equal(split[:100], split[100:200])
    assert len(set(split)) == 3


def test_groups_stay_together_and_decide_alone():
    groups = [f"patient {i % 40}" for i in range(400)]
    split = split_of(range(400), groups)
    assert all(len(set(split[i::40])) == 1 for i in range(40))
    assert len(set(split)) == 3
    others = split_of(range(1000, 1400), groups)
    assert np.array_equal(split, others)


def test_text_and_bytes_name_the_same_groups():
    names = ["ä", "b", "", "ä"]
    encoded = np.array([name.encode() for name in names])
    assert np.array_equal(split_of(range(4), names), split_of(range(4), encoded))


def test_a_duplicate_joins_two_groups_under_the_smaller_name():
    # Image 1 is in groups a and z, image 2 in z and, without a group, once more.
    keys, groups = [0, 1, 1, 2, 2], ["a", "a", "z", "z", ""]
    alone = split_of([0], ["a"])[0]
    assert split_of(keys, groups).tolist() == [alone] * 5


@given(st.lists(st.tuples(st.integers(0, 15), st.sampled_from(["", "a", "b", "c", "d", "e"])), min_size=1))
def test_no_content_or_group_ever_lies_in_two_splits(rows):
    keys, groups = zip(*rows, strict=True)
    split = split_of(keys, groups)
    assert (split != Split.NONE).all()
    for column in (np.array(keys), np.array(groups)):
        for value in set(column.tolist()) - {""}:
            assert len(set(split[column == value].tolist())) == 1


ROWS = st.lists(st.integers(0, 40), min_size=1, max_size=30)


@given(ROWS, ROWS, st.randoms(use_true_random=False))
def test_no_image_moves_when_others_come_or_their_order_changes(keys, added, draw):
    before = dict(zip(keys, split_of(keys).tolist(), strict=True))
    grown = [*keys, *added]
    draw.shuffle(grown)
    after = dict(zip(grown, split_of(grown).tolist(), strict=True))
    assert {key: after[key] for key in before} == before


def test_declared_splits_are_kept_and_the_rest_stays_unused():
    declared = np.array([1, 2, 3, 0, 0], np.uint8)
    assert np.array_equal(assign_splits(declared, digests(range(5)), no_groups(5)), declared)


def test_train_and_val_only_leaves_no_test():
    declared = np.array([1, 1, 2], np.uint8)
    assert np.array_equal(assign_splits(declared, digests(range(3)), no_groups(3)), declared)


def test_val_is_cut_from_train_by_the_same_hash():
    n = 10_000
    declared = np.where(np.arange(n) < 8000, Split.TRAIN, Split.TEST).astype(np.uint8)
    split = assign_splits(declared, digests(range(n)), no_groups(n))
    assert (split[8000:] == Split.TEST).all()
    assert (split[:8000] == Split.VAL).mean() == pytest.approx(0.25, abs=0.02)
    # What the undivided set trains on is trained on here as well.
    assert (split[:8000][split_of(range(8000)) == Split.TRAIN] == Split.TRAIN).all()


def test_unusable_rows_get_no_split_but_their_declaration_counts():
    declared = np.array([1] * 50 + [3] * 50, np.uint8)
    usable = np.arange(100) < 50
    split = assign_splits(declared, digests(range(100)), no_groups(100), usable=usable)
    assert (split[50:] == Split.NONE).all()
    assert set(split[:50]) == {Split.TRAIN, Split.VAL}


def test_unreadable_rows_do_not_join_groups():
    # Two failed rows share the digest of nothing; their groups must not become one for it.
    keys, groups = [0, 1, "failed", "failed"], ["a", "b", "a", "b"]
    usable = np.array([True, True, False, False])
    assert np.array_equal(split_of(keys, groups, usable=usable)[:2], split_of([0, 1], ["a", "b"]))


@pytest.mark.parametrize("fractions", [(0.5, 0.5, 0.5), (0, 0.5, 0.5), (1.2, -0.2, 0)])
def test_invalid_fractions_raise(fractions):
    with pytest.raises(SplitError, match="fractions: got"):
        split_of(range(3), fractions=fractions)


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(SplitError, match=r"content: got shape \(3, 16\), expected \(4, 16\)"):
        assign_splits(undeclared(4), digests(range(3)), no_groups(4))
    with pytest.raises(SplitError, match="groups: got shape"):
        assign_splits(undeclared(3), digests(range(3)), no_groups(4))
    with pytest.raises(SplitError, match="expected 0 to 3"):
        assign_splits(np.array([7, 1], np.uint8), digests(range(2)), no_groups(2))


def test_report_counts_classes_and_finds_nothing_wrong():
    labels = np.arange(600) % 2
    split = np.repeat([1, 2, 3], [360, 120, 120]).astype(np.uint8)
    report = check_splits(split, labels, ["a", "b"], fractions=(0.6, 0.2, 0.2))
    assert report.counts.tolist() == [[180, 60, 60], [180, 60, 60]]
    assert report.shares == pytest.approx((0.6, 0.2, 0.2))
    assert report.problems == ()


def test_missing_classes_are_listed_per_split():
    split, labels = np.array([1, 1, 2, 3, 3, 0], np.uint8), np.array([0, 1, 0, 1, 2, 3])
    found = missing_classes(split, labels, ["ant", "bee", "cat", "dog", "eel"])
    assert found == {"train": ("cat",), "val": ("bee", "cat"), "test": ("ant",)}
    assert missing_classes(np.array([1, 1], np.uint8), np.array([0, 1]), ["ant", "bee"]) == {}


def test_a_class_without_training_rows_is_an_error_that_names_it():
    with pytest.raises(SplitError, match=r"'b': labelled rows, but none in train.*Add images"):
        check_splits(np.array([1, 2, 3], np.uint8), np.array([0, 1, 0]), ["a", "b"])


def test_nothing_to_train_on_is_an_error():
    with pytest.raises(SplitError, match="no labelled row is in train; got 0 in val and 2 in test"):
        check_splits(np.array([3, 3, 1], np.uint8), np.array([0, 1, -1]), ["a", "b"])


def test_missing_val_and_test_are_reported():
    split, labels = np.array([1, 1, 2, 1, 1], np.uint8), np.array([0, 1, 0, 0, 1])
    problems = check_splits(split, labels, ["a", "b"]).problems
    assert any("'b': no row in val" in problem for problem in problems)
    assert "no labelled row is in test" in problems


def test_uneven_classes_are_reported_with_the_worst_of_them():
    labels = np.repeat([0, 1], 300)
    split = np.concatenate([np.repeat([1, 2, 3], [290, 5, 5]), np.repeat([1, 2, 3], [100, 100, 100])])
    (problem,) = check_splits(split.astype(np.uint8), labels, ["a", "b"]).problems
    assert "unevenly" in problem
    assert "Cramér's V = 0.66" in problem
    assert "train has 33% of 'b', but 65% of all rows" in problem


def test_a_hash_division_is_not_called_uneven():
    labels = np.random.default_rng(0).integers(0, 10, 3000)
    report = check_splits(split_of(range(3000)), labels, list("abcdefghij"), fractions=(0.6, 0.2, 0.2))
    assert report.problems == ()


def test_few_large_groups_are_reported_as_off_the_shares():
    split = split_of(range(30), ["only"] * 30)
    report = check_splits(
        np.where(split != Split.NONE, 1, 0).astype(np.uint8),
        np.arange(30) % 2,
        ["a", "b"],
        fractions=(0.6, 0.2, 0.2),
    )
    assert any("train holds 100% of the rows, expected 60%" in problem for problem in report.problems)
