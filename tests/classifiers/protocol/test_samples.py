"""Samples hold each class in proportion, and are a function of the seed."""

import numpy as np
import pytest

from frostline.classifiers.protocol.samples import stratified

LABELS = np.repeat([0, 1, 2, -1], [600, 300, 99, 1])


def counts(rows, labels=LABELS):
    return {code: int((labels[rows] == code).sum()) for code in np.unique(labels)}


@pytest.mark.parametrize("size", [4, 7, 100, 333, 999])
def test_each_class_gets_its_share_and_at_least_one(size):
    rows = stratified(np.arange(1000), LABELS, size, 0)
    assert len(np.unique(rows)) == size
    assert (np.diff(rows) > 0).all()
    for code, count in counts(rows).items():
        members = (code == LABELS).sum()
        assert 1 <= count <= members
        # one is given to each class before the shares of the rest
        assert abs(count - 1 - (members - 1) * (size - 4) / (1000 - 4)) < 1


def test_fewer_places_than_classes_go_to_the_largest():
    assert counts(stratified(np.arange(1000), LABELS, 1, 0)) == {0: 1, 1: 0, 2: 0, -1: 0}


def test_all_rows_are_returned_if_there_are_no_more_than_asked_for():
    rows = np.array([5, 3, 9])
    assert stratified(rows, np.array([0, 0, 1]), 3, 0).tolist() == [3, 5, 9]
    assert not stratified(rows[:0], rows[:0], 3, 0).size


def test_sample_depends_on_the_seed_alone():
    first, again, other = (stratified(np.arange(1000), LABELS, 50, seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()
