"""Division within each class: who is in which split, and what growth moves."""

import hashlib

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from frostline.classifiers.protocol.splits import assign_splits, check_splits
from frostline.splits import Split

SHARES = (0.6, 0.2, 0.2)
USED = (Split.TRAIN, Split.VAL, Split.TEST)


def digests(keys):
    return np.array(
        [list(hashlib.blake2b(str(key).encode(), digest_size=16).digest()) for key in keys], np.uint8
    )


def split_of(rows, shares=SHARES, **options):
    """Codes of rows of (image, class, group)."""
    keys, labels, groups = zip(*rows, strict=True)
    return assign_splits(
        np.zeros(len(rows), np.uint8),
        digests(keys),
        np.array(groups),
        labels=np.array(labels),
        fractions=shares,
        **options,
    )


def counts_of(rows, split):
    """Number of units of each class in train, val and test; a unit is an image or a group."""
    units = {
        (label, group or image): code
        for (image, label, group), code in zip(rows, split.tolist(), strict=True)
    }
    counts = {label: [0, 0, 0] for _, label, _ in rows}
    for (label, _), code in units.items():
        counts[label][code - 1] += 1
    return counts


# Images of one class each: image i is of class i % classes, and a group holds images of one class.
shares = st.sampled_from(
    [
        SHARES,
        (0.8, 0.1, 0.1),
        (0.98, 0.01, 0.01),
        (0.34, 0.33, 0.33),
        (0.7, 0.3, 0.0),
        (0.7, 0.0, 0.3),
        (1.0, 0.0, 0.0),
    ]
)
plain = st.lists(st.integers(0, 400), min_size=1, max_size=80, unique=True).map(
    lambda keys: [(key, key % 4, f"{key % 4}-{key // 40}" if key % 3 == 0 else "") for key in keys]
)
# Images in groups that span classes, some in two copies, copies with other labels included.
tangled = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 4), st.sampled_from(["", "", "", *"abcdefgh"])),
    min_size=1,
    max_size=60,
)


@given(plain, shares)
def test_every_class_of_three_units_is_in_every_split_with_its_share(rows, fractions):
    for counts in counts_of(rows, split_of(rows, fractions)).values():
        units = sum(counts)
        assert counts[0] >= 1
        if units >= 3:
            assert all(count >= 1 for count, share in zip(counts, fractions, strict=True) if share)
        assert all(count == 0 for count, share in zip(counts, fractions, strict=True) if not share)
        if units >= 3 and all(share * units >= 1 for share in fractions if share):
            assert all(
                abs(count - share * units) <= 1 for count, share in zip(counts, fractions, strict=True)
            )


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        (1, [1, 0, 0]),
        (2, [1, 1, 0]),
        (3, [1, 1, 1]),
        (4, [2, 1, 1]),
        (5, [3, 1, 1]),
        (7, [4, 2, 1]),
        (100, [60, 20, 20]),
    ],
)
def test_counts_of_a_class_follow_from_its_number_of_units(units, expected):
    rows = [(image, 0, "") for image in range(units)]
    assert counts_of(rows, split_of(rows))[0] == expected


@given(tangled, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(rows, random):
    order = list(range(len(rows)))
    random.shuffle(order)
    np.testing.assert_array_equal(split_of([rows[i] for i in order]), split_of(rows)[order])


@given(tangled, shares)
def test_copies_and_groups_stay_together_and_every_class_is_in_train(rows, fractions):
    split = split_of(rows, fractions)
    images, labels, groups = (np.array(column) for column in zip(*rows, strict=True))
    for column in (images, groups):
        for value in set(column.tolist()) - {""}:
            assert len(set(split[column == value].tolist())) == 1
    for label in set(labels.tolist()):
        assert (split[labels == label] == Split.TRAIN).any()


def test_groups_of_several_classes_are_divided_so_that_no_class_is_missing():
    """Each class has three groups, which it shares with the next class, and no image of its own."""
    rows = [
        (f"{label}{group}{copy}", (label + copy) % 30, f"{label}{group}")
        for label in range(30)
        for group in "abc"
        for copy in (0, 1)
    ]
    split, labels = split_of(rows), np.array([label for _, label, _ in rows])
    for label in range(30):
        assert set(split[labels == label].tolist()) == {1, 2, 3}


@given(plain, st.integers(401, 800))
def test_a_new_unit_moves_at_most_two_others_and_none_of_another_class(rows, new):
    before, after = split_of(rows), split_of([*rows, (new, new % 4, "")])[:-1]
    units = {
        (label, group or image)
        for (image, label, group), one, other in zip(rows, before, after, strict=True)
        if one != other
    }
    assert len(units) <= 2
    assert all(label == new % 4 for label, _ in units)


@given(plain, st.integers(401, 800))
def test_a_new_unit_moves_units_by_one_split_and_never_across_val(rows, new):
    before, after = split_of(rows).astype(int), split_of([*rows, (new, new % 4, "")])[:-1].astype(int)
    assert np.abs(before - after).max() <= 1


def test_a_growing_set_keeps_nearly_all_of_its_assignment():
    rows = [(image, image % 5, "") for image in range(2000)]
    before, after = split_of(rows[:1000]), split_of(rows)[:1000]
    assert (before != after).mean() < 0.08


@given(plain)
def test_a_new_image_of_a_group_moves_nothing(rows):
    grouped = [row for row in rows if row[2]]
    assume(grouped)
    _, label, group = grouped[0]
    np.testing.assert_array_equal(split_of([*rows, ("new", label, group)])[:-1], split_of(rows))


def test_rows_without_a_label_are_divided_by_the_hash_alone():
    rows = [(image, -1, "") for image in range(200)]
    plain_split = assign_splits(np.zeros(200, np.uint8), digests(range(200)), np.zeros(200, "S1"))
    np.testing.assert_array_equal(split_of(rows), plain_split)


def test_thirty_classes_of_four_images_are_always_divided():
    for seed in range(50):
        rows = [(f"{seed} {image}", image % 30, "") for image in range(120)]
        report = check_splits(
            split_of(rows), np.arange(120) % 30, [str(label) for label in range(30)], fractions=SHARES
        )
        assert report.counts.tolist() == [[2, 1, 1]] * 30


def test_val_is_cut_from_declared_train_within_each_class():
    n = 40
    declared = np.where(np.arange(n) < 30, Split.TRAIN, Split.TEST).astype(np.uint8)
    labels = np.arange(n) % 10
    split = assign_splits(declared, digests(range(n)), np.zeros(n, "S1"), labels=labels)
    assert (split[30:] == Split.TEST).all()
    assert all(sorted(split[:30][labels[:30] == label].tolist()) == [1, 1, 2] for label in range(10))


def test_known_rows_keep_their_split_with_what_belongs_to_them():
    rows = [(image, 0, "") for image in range(10)] + [(0, 0, "g"), ("new", 0, "g"), (1, 0, "h"), (2, 0, "h")]
    known = np.zeros(len(rows), np.uint8)
    known[[0, 1, 2]] = Split.TEST, Split.VAL, Split.TRAIN
    split = split_of(rows, known=known)
    assert split[[0, 10, 11]].tolist() == [Split.TEST] * 3
    assert split[[1, 2, 12, 13]].tolist() == [Split.TRAIN] * 4  # joined: what was trained on is not held out


def test_known_rows_do_not_change_a_declared_split():
    declared = np.array([1, 1, 3, 3], np.uint8)
    known = np.array([3, 2, 1, 2], np.uint8)
    options = {"labels": np.zeros(4, np.int64), "known": known}
    split = assign_splits(declared, digests(range(4)), np.zeros(4, "S1"), **options)
    assert split[1:].tolist() == [2, 3, 3]
