"""Division of images into train, val and test within each class."""

import numpy as np
from numpy.typing import NDArray

from frostline.splits import Split

_DIVIDED = 3  # units from which on a class is in train, val and test

Shares = tuple[float, float, float]


def divide_by_class(
    positions: NDArray[np.float64], labels: NDArray[np.int64], shares: Shares
) -> NDArray[np.uint8]:
    """Divide rows into train, val and test, so that each split has its share of each class.

    A unit is a set of rows with one position, which stay together. The units of a class are sorted by position. The
    first ones are in train, the next ones in val, and the last ones in test. The two borders are the shares of the
    number of units, rounded, but a class of three or more units has at least one in each split whose share is not 0.
    A class of one unit is in train, and a class of two in train and val. The borders move by at most one unit when
    a unit is added.

    Units of several classes are divided as a class of their own. Afterwards such a unit moves if a class would
    otherwise be missing from train, or, with three or more units, from val or test. Train comes first. A unit does not
    move if that would leave another class without a unit in val or test, so a class that has fewer than three units
    of its own can be missing there. Units without a label are divided by their positions alone.

    Args:
        positions: (n,) positions of the rows in [0, 1).
        labels: (n,) indices into the classes, -1 for unknown.
        shares: Shares of train, val and test, which sum to 1. That of train is not 0.

    Returns:
        (n,) uint8 codes of `Split`.
    """
    units, unit_of = np.unique(positions, return_inverse=True)
    codes = divide_by_position(units, shares)
    members = np.unique(np.stack([unit_of, labels])[:, labels >= 0], axis=1)
    stratum = np.full(len(units), -1)
    stratum[members[0]] = members[1]
    classes = np.bincount(members[0], minlength=len(units))
    stratum[classes > 1] = labels.max(initial=-1) + 1
    labelled = np.flatnonzero(classes)
    rank, count = _ranks(stratum[labelled])
    first, second = _borders(count, shares)
    codes[labelled] = Split.TRAIN + (rank >= first) + (rank >= second)
    if (classes > 1).any():
        _cover_classes(codes, units, members, classes > 1, shares)
    return codes[unit_of]


def divide_by_position(positions: NDArray[np.float64], shares: Shares) -> NDArray[np.uint8]:
    """Return the split codes of positions in [0, 1), in ascending order train, val, test."""
    train, val, test = shares
    codes = np.full(len(positions), Split.TEST, np.uint8)
    codes[positions < (train + val if test else 1)] = Split.VAL
    codes[positions < train] = Split.TRAIN
    return codes


def _ranks(stratum: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for each element its rank among those of its stratum, and their number."""
    _, number, counts = np.unique(stratum, return_inverse=True, return_counts=True)
    order = np.argsort(number, kind="stable")
    starts = np.cumsum(counts) - counts
    rank = np.empty(len(stratum), np.int64)
    rank[order] = np.arange(len(stratum)) - starts[number[order]]
    return rank, counts[number]


def _borders(count: NDArray[np.int64], shares: Shares) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the number of units in train, and in train and val, of classes of `count` units.

    With one unit more, either number is the same or larger by one.
    """
    train, val, test = shares
    some_val, some_test = int(val > 0), int(test > 0)
    first = _rounded(train * count).clip(1, np.maximum(1, count - some_val - some_test))
    least = np.minimum(first + some_val, count)
    second = _rounded((train + val) * count).clip(least, np.maximum(least, count - some_test))
    return first, second


def _rounded(numbers: NDArray[np.floating]) -> NDArray[np.int64]:
    rounded: NDArray[np.int64] = np.floor(numbers + 0.5).astype(np.int64)
    return rounded


def _cover_classes(
    codes: NDArray[np.uint8],
    units: NDArray[np.float64],
    members: NDArray[np.int64],
    shared: NDArray[np.bool_],
    shares: Shares,
) -> None:
    """Move units of several classes into splits from which one of their classes is missing.

    Args:
        codes: (u,) codes of the units, changed in place.
        units: (u,) positions of the units.
        members: (2, m) units and classes of each pair of a unit and one of its classes.
        shared: (u,) mask of the units of several classes.
        shares: Shares of train, val and test.
    """
    counts = np.zeros((members[1].max() + 1, len(Split)), np.int64)
    np.add.at(counts, (members[1], codes[members[0]]), 1)
    needed = np.zeros(counts.shape, np.bool_)
    needed[:, Split.TRAIN] = counts.any(axis=1)
    for code, share in ((Split.VAL, shares[1]), (Split.TEST, shares[2])):
        needed[:, code] = (counts.sum(axis=1) >= _DIVIDED) & (share > 0)
    pairs = members[:, shared[members[0]]]
    ends = np.cumsum(shares)
    for code, middle in zip((Split.TRAIN, Split.VAL, Split.TEST), ends - np.divide(shares, 2), strict=True):
        for name in np.flatnonzero(needed[:, code] & (counts[:, code] == 0)).tolist():
            if counts[name, code]:  # by the move of a unit that is of this class as well
                continue
            candidates = pairs[0, pairs[1] == name].tolist()
            free = [unit for unit in candidates if _is_free(unit, codes, counts, needed, pairs)]
            if not free and code == Split.TRAIN:
                free = candidates
            if free:
                _move(min(free, key=lambda unit: abs(units[unit] - middle)), code, codes, counts, pairs)


def _is_free(
    unit: int,
    codes: NDArray[np.uint8],
    counts: NDArray[np.int64],
    needed: NDArray[np.bool_],
    pairs: NDArray[np.int64],
) -> bool:
    """Return whether no class of a unit needs it in its split."""
    own, code = pairs[1, pairs[0] == unit], codes[unit]
    return bool(((counts[own, code] > 1) | ~needed[own, code]).all())


def _move(
    unit: int,
    code: int,
    codes: NDArray[np.uint8],
    counts: NDArray[np.int64],
    pairs: NDArray[np.int64],
) -> None:
    own = pairs[1, pairs[0] == unit]
    counts[own, codes[unit]] -= 1
    counts[own, code] += 1
    codes[unit] = code
