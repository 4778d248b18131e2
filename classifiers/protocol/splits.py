"""Assignment of rows to train, val and test that stays stable when a data set grows."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import chi2_contingency
from scipy.stats.contingency import association

from frostline.classifiers.errors import SplitError
from frostline.classifiers.protocol.strata import divide_by_class, divide_by_position
from frostline.splits import SPLIT_NAMES, Split

# Part of every hash. A change would move rows between the splits of existing data sets.
_SALT = b"frostline-split-1:"

# Splits count as unstratified if the deviation is significant and the effect is not small (Cohen 1988: small is 0.1).
_CHANCE, _EFFECT = 0.001, 0.1
_SHARE_TOLERANCE = 0.1


def assign_splits(
    declared: NDArray[np.uint8],
    content: NDArray[np.uint8],
    groups: NDArray[Any],
    *,
    labels: NDArray[np.int64] | None = None,
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
    usable: NDArray[np.bool_] | None = None,
    known: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Assign each row to a split: the declared one or, without declared splits, one by a stable hash.

    Declared splits are kept. If a data set declares train rows but no val rows, val is cut from train in the
    proportion val / (train + val), and undeclared rows stay unused. If no split is declared, all rows are divided.
    The hash is that of the group or, without a group, of the image content. Rows of one group, and rows of equal
    content, stay together, transitively: they are one unit. The smallest group name in such a unit decides. A new
    image that joins two units can therefore move one of them.

    With `labels`, the hash sorts the units of each class, and the shares are taken within each class; see
    `strata.divide_by_class`. Every class with three or more units of its own is in train, val and test. A new unit
    moves at most two others, of its own class. Without `labels`, the hash alone decides, the shares hold on average,
    and new units move no other.

    Args:
        declared: (n,) codes of `Split`.
        content: (n, 16) digests of the image bytes.
        groups: (n,) str or UTF-8 bytes, empty for no group.
        labels: (n,) indices into the classes, -1 for unknown; None to divide all classes as one.
        fractions: Shares of train, val and test.
        usable: (n,) bool, rows that are labelled and readable; all rows by default. Other rows get `Split.NONE`.
        known: (n,) codes of rows that an earlier division had, `Split.NONE` for others. Where no split is declared,
            these rows and the rows that stay together with them keep their code; if they differ, train precedes val
            and val test.

    Returns:
        (n,) uint8 codes of `Split`.

    Raises:
        SplitError: The lengths do not match, a code is unknown, or the fractions do not sum to 1.
    """
    declared, content, groups = np.asarray(declared), np.asarray(content, np.uint8), np.asarray(groups)
    usable = np.ones(len(declared), np.bool_) if usable is None else np.asarray(usable, np.bool_)
    labels = None if labels is None else np.asarray(labels, np.int64)
    known = np.zeros(len(declared), np.uint8) if known is None else np.asarray(known, np.uint8)
    _check_arrays(declared, content, groups, usable=usable, known=known, labels=labels)
    shares = _check_fractions(fractions)

    codes = np.where(usable, declared, Split.NONE).astype(np.uint8)
    has = {code: bool(np.any(declared == code)) for code in (Split.TRAIN, Split.VAL, Split.TEST)}
    if not any(has.values()):
        rows = np.flatnonzero(usable)
    elif has[Split.TRAIN] and not has[Split.VAL]:
        rows = np.flatnonzero(codes == Split.TRAIN)
        train = shares[0] / (shares[0] + shares[1])
        shares = (train, 1 - train, 0.0)
        known = np.where(known == Split.TEST, Split.NONE, known)
    else:
        return codes
    where = positions(content[rows], groups[rows])
    divided = (
        divide_by_position(where, shares) if labels is None else divide_by_class(where, labels[rows], shares)
    )
    kept = _of_unit(where, known[rows])
    codes[rows] = np.where(kept == Split.NONE, divided, kept)
    return codes


def _of_unit(positions: NDArray[np.float64], known: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return for each row the smallest known code of the rows with its position, `Split.NONE` if none is known."""
    units, unit_of = np.unique(positions, return_inverse=True)
    smallest = np.full(len(units), len(Split), np.uint8)
    np.minimum.at(smallest, unit_of, np.where(known == Split.NONE, len(Split), known).astype(np.uint8))
    smallest[smallest == len(Split)] = Split.NONE
    return smallest[unit_of]


def _check_arrays(
    declared: NDArray[Any], content: NDArray[np.uint8], groups: NDArray[Any], **others: NDArray[Any] | None
) -> None:
    n = len(declared)
    for name, array in {"declared": declared, "groups": groups, **others}.items():
        if array is not None and array.shape != (n,):
            raise SplitError(f"{name}: got shape {array.shape}, expected ({n},), one entry per row")
    if content.shape != (n, 16):
        raise SplitError(f"content: got shape {content.shape}, expected ({n}, 16), one digest per row")
    if not np.isin(declared, list(Split)).all():
        raise SplitError(f"declared: got codes {np.unique(declared).tolist()}, expected 0 to 3")


def _check_fractions(fractions: tuple[float, float, float]) -> tuple[float, float, float]:
    train, val, test = fractions
    if min(fractions) < 0 or train <= 0 or abs(sum(fractions) - 1) > 1e-9:
        raise SplitError(
            f"fractions: got {fractions}, expected shares of train, val and test that are not negative, "
            "sum to 1 and leave something to train on, e.g. (0.6, 0.2, 0.2)"
        )
    return train, val, test


def positions(content: NDArray[np.uint8], groups: NDArray[Any]) -> NDArray[np.float64]:
    """Return the (n,) float64 hash position of each row in [0, 1).

    Rows of equal content and rows of one group share a position, transitively.
    """
    contents = np.ascontiguousarray(content).view("V16").ravel().tolist()
    positions = np.array([_position(b"content:", key) for key in contents], np.float64)
    grouped = groups != groups.dtype.type()
    if grouped.any():
        names, smallest = _smallest_groups(content, groups, grouped)
        of_name = np.array([_position(b"group:", _utf8(name)) for name in names.tolist()])
        joined = smallest >= 0
        positions[joined] = of_name[smallest[joined]]
    return positions


def _position(kind: bytes, key: bytes) -> float:
    digest = hashlib.blake2b(_SALT + kind + key, digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53  # 53 bits are exact in a float64 and stay below 1


def _utf8(name: str | bytes) -> bytes:
    return name.encode() if isinstance(name, str) else name


def _smallest_groups(
    content: NDArray[np.uint8], groups: NDArray[Any], grouped: NDArray[np.bool_]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the sorted group names, and for each row the index of the first one in its component, -1 for none.

    A graph connects every group with the contents of its rows. Its connected components stay together.
    """
    keys = np.ascontiguousarray(content).view("V16").ravel()
    images, image_of = np.unique(keys, return_inverse=True)
    names, name_of = np.unique(groups[grouped], return_inverse=True)
    nodes = len(images) + len(names)
    edges = (np.ones(len(name_of), np.bool_), (image_of[grouped], len(images) + name_of))
    _, component = connected_components(coo_array(edges, shape=(nodes, nodes)), directed=False)
    smallest = np.full(nodes, len(names), np.int64)
    np.minimum.at(smallest, component[len(images) :], np.arange(len(names)))
    smallest[smallest == len(names)] = -1
    return names, smallest[component[image_of]]


@dataclass(frozen=True)
class SplitReport:
    """Class counts and problems of a division into splits.

    Attributes:
        classes: The k class names.
        counts: (k, 3) number of rows of each class in train, val and test.
        shares: Shares of train, val and test among the used rows.
        problems: Warnings for the user, one sentence each.
    """

    classes: tuple[str, ...]
    counts: NDArray[np.int64]
    shares: tuple[float, float, float]
    problems: tuple[str, ...]


def check_splits(
    split: NDArray[np.uint8],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    *,
    fractions: tuple[float, float, float] | None = None,
) -> SplitReport:
    """Count classes per split, and report problems that would make training or scores misleading.

    The splits count as unstratified if a chi-square test rejects the independence of class and split (p < 0.001)
    and the effect is not small (Cramér's V >= 0.1).

    Args:
        split: (n,) codes from `assign_splits`.
        labels: (n,) indices into classes, -1 if unknown.
        classes: The k class names.
        fractions: Requested shares; None if the data set declares its own splits.

    Returns:
        Counts, shares and problems.

    Raises:
        SplitError: Train has no labelled rows, or a class has no rows in train.
    """
    split, labels = np.asarray(split), np.asarray(labels)
    used = (split != Split.NONE) & (labels >= 0)
    cells = labels[used] * 3 + (split[used] - 1)
    counts = np.bincount(cells, minlength=3 * len(classes)).reshape(len(classes), 3)
    totals = counts.sum(axis=0)
    if totals[0] == 0:
        raise SplitError(
            f"no labelled row is in train; got {totals[1]} in val and {totals[2]} in test. "
            "Declare train rows (a train/ folder, or a manifest's split column), or declare no split at all"
        )
    refusals, problems = class_problems(missing_classes(split, labels, classes))
    if refusals:
        raise SplitError(refusals[0])
    shares = totals / totals.sum()
    problems += [
        f"no labelled row is in {name}"
        for name, total in zip(SPLIT_NAMES[2:], totals[1:], strict=True)
        if not total
    ]
    problems += _unstratified(counts, classes)
    if fractions is not None:
        problems += _off_shares(shares, fractions)
    train, val, test = shares.tolist()
    return SplitReport(tuple(classes), counts, (train, val, test), tuple(problems))


def missing_classes(
    split: NDArray[np.uint8], labels: NDArray[np.int64], classes: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Find classes that have labelled rows, but none in one of the used splits.

    Returns:
        Names of the missing classes by name of the split. Complete splits are omitted.
    """
    known = (split != Split.NONE) & (labels >= 0)
    counts = np.zeros((len(classes), len(SPLIT_NAMES)), np.int64)
    np.add.at(counts, (labels[known], split[known]), 1)
    used = counts.sum(axis=1) > 0
    missing = {
        SPLIT_NAMES[code]: tuple(
            classes[row] for row in np.flatnonzero(used & (counts[:, code] == 0)).tolist()
        )
        for code in range(1, len(SPLIT_NAMES))
        if counts[:, code].any()
    }
    return {name: absent for name, absent in missing.items() if absent}


def class_problems(missing: Mapping[str, Sequence[str]]) -> tuple[list[str], list[str]]:
    """Return errors (no head can be trained) and warnings (limits of the scores) for the result of `missing_classes`.

    Each error or warning is one sentence.
    """
    refusals = []
    if absent := missing.get(SPLIT_NAMES[Split.TRAIN]):
        it = "it" if len(absent) == 1 else "them"
        refusals.append(
            f"{_names(absent)}: labelled rows, but none in train, so no head can learn {it}. Add images of {it}, "
            "remove the class, or declare the splits (train/ val/ test/ folders, or a manifest's split column)"
        )
    warnings = [
        f"{_names(missing[name])}: no row in {name}, so {effect} can't account for it"
        for name, effect in (("val", "choosing a head"), ("test", "the scores"))
        if name in missing
    ]
    return refusals, warnings


def _unstratified(counts: NDArray[np.int64], classes: Sequence[str]) -> list[str]:
    table = counts[np.ix_(counts.sum(axis=1) > 0, counts.sum(axis=0) > 0)]
    if min(table.shape) < 2:
        return []
    chance, effect = chi2_contingency(table).pvalue, association(table, method="cramer")
    if chance >= _CHANCE or effect < _EFFECT:
        return []
    shares = counts.sum(axis=0) / counts.sum()
    own = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    gap = np.where(counts.sum(axis=1, keepdims=True) > 0, np.abs(own - shares), 0)
    row, column = np.unravel_index(int(gap.argmax()), gap.shape)
    figures = f"chi-square p = {chance:.1g}, Cramér's V = {effect:.2f}"
    worst = f"{SPLIT_NAMES[int(column) + 1]} has {own[row, column]:.0%} of {classes[int(row)]!r}"
    return [
        f"classes are distributed unevenly over the splits ({figures}): {worst}, but {shares[column]:.0%} of all rows"
    ]


def _off_shares(shares: NDArray[np.float64], fractions: tuple[float, float, float]) -> list[str]:
    return [
        f"{name} holds {got:.0%} of the rows, expected {expected:.0%}; few or large groups can't be divided evenly"
        for name, got, expected in zip(SPLIT_NAMES[1:], shares, fractions, strict=True)
        if abs(got - expected) > _SHARE_TOLERANCE
    ]


def _names(classes: Sequence[str], limit: int = 5) -> str:
    shown = ", ".join(map(repr, classes[:limit]))
    return f"{shown} and {len(classes) - limit} more" if len(classes) > limit else shown
