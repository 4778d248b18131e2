"""What leaks from one split into another: equal images, nearly equal ones, groups; and labels that contradict."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.errors import SplitError
from frostline.classifiers.numerics.devices import resolve_device
from frostline.classifiers.numerics.neighbors import MEMORY_BYTES, Pairs, Rows, RowSearch
from frostline.splits import SPLIT_NAMES, Split

# Centred cosine from which a pair is called a near-duplicate. On 5,000 photos of CIFAR-10 in efficientnet_lite0's
# features, pairs from 0.85 on are one photo cut, lit or lettered differently, or one object in a series of photos;
# between 0.80 and 0.85 such pairs mix with pairs that are merely alike. 95 of 100 copies of those photos score 0.96 or
# more when scaled up, 0.94 a tenth brighter, 0.90 mirrored, 0.79 cropped by a pixel a side; strongly compressed ones
# score as little as unrelated photos, and no threshold finds them. 0.98 would miss every near-duplicate that those
# 5,000 photos hold. Sets of simple, uniform pictures (scanned digits) have innocent pairs above 0.85: hence a warning.
NEAR = 0.85


def exact_duplicates(content: NDArray[np.uint8], split: NDArray[np.uint8]) -> list[NDArray[np.int64]]:
    """Images whose very bytes are in more than one split.

    Args:
        content: (n, 16) digests of the image bytes.
        split: (n,) codes of `Split`; rows in none are left out.

    Returns:
        One array of rows per such image, of all its rows that are in a split; sorted, by first row.
    """
    return _mixed(_keys(content), split, split != Split.NONE)


def groups_across(groups: NDArray[Any], split: NDArray[np.uint8]) -> list[NDArray[np.int64]]:
    """Groups (e.g. one patient's images) that are in more than one split.

    Args:
        groups: (n,) str or bytes, empty for no group.
        split: (n,) codes of `Split`; rows in none are left out.

    Returns:
        One array of rows per such group; sorted, by first row.
    """
    return _mixed(groups, split, (split != Split.NONE) & (groups != groups.dtype.type()))


def conflicting_labels(content: NDArray[np.uint8], labels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Images whose very bytes carry different labels.

    Args:
        content: (n, 16) digests of the image bytes.
        labels: (n,) class indices; rows without a label (-1) are left out.

    Returns:
        One array of rows per such image; sorted, by first row.
    """
    return _mixed(_keys(content), labels, labels >= 0)


class NearDuplicates(NamedTuple):
    """Pairs of rows in different splits, the most alike first."""

    rows_a: NDArray[np.int64]  # (p,) rows of the earlier split: train before val before test
    rows_b: NDArray[np.int64]  # (p,)
    cosine: NDArray[np.float64]  # (p,) of the centred features
    threshold: float
    complete: bool  # whether these are all; else the most alike of them


def near_duplicates(
    X: NDArray[Any],
    split: NDArray[np.uint8],
    *,
    threshold: float = NEAR,
    max_pairs: int = 10_000,
    device: str = "auto",
    memory_bytes: int = MEMORY_BYTES,
) -> NearDuplicates:
    """All pairs of rows in different splits whose centred features have at least this cosine.

    Features are centred on the mean of the training rows (of all rows in a split, where none is in train): what all
    images have in common says nothing, and makes raw cosines large and dependent on the backbone. The search is exact
    (`classifiers.numerics.neighbors`) and works in blocks; its time is that of one product between the splits. Rows that are
    not finite, as of unreadable images, must be in no split.

    Args:
        X: (n, d) floats of any width, e.g. a memory map.
        split: (n,) codes of `Split`; rows in none are left out.
        threshold: Least cosine, in (-1, 1].
        max_pairs: How many pairs to keep at most, the most alike.
        device: Where products are computed.
        memory_bytes: Bound on working memory, beside the pairs.

    Raises:
        SplitError: Arrays that don't fit, or a threshold or a number of pairs out of range.
    """
    if len(X) != len(split) or not -1 < threshold <= 1 or max_pairs < 1:
        raise SplitError(
            f"got {len(X)} rows of features, {len(split)} split codes, threshold={threshold} and max_pairs={max_pairs}, "
            "expected as many codes as rows, a threshold above -1 and at most 1, and at least one pair"
        )
    members = [rows for code in range(1, len(SPLIT_NAMES)) if (rows := np.flatnonzero(split == code)).size]
    best = _MostAlike(1 - threshold, max_pairs)
    if len(members) > 1:
        central = split == Split.TRAIN
        centre = _mean(X, np.flatnonzero(central if central.any() else split != Split.NONE))
        for place, earlier in enumerate(members[:-1]):
            search = RowSearch(
                Rows(X, earlier),
                metric="cosine",
                device=resolve_device(device),
                centre=centre,
                memory_bytes=memory_bytes,
            )
            for later in members[place + 1 :]:
                limits = best.limits(len(later))
                for pairs in search.within(Rows(X, later), limits):
                    best.add(earlier[pairs.rows], later[pairs.queries], pairs.distances)
                    limits[:] = best.limit
    return best.result(threshold)


class _MostAlike:
    """The nearest pairs of those that were added, at most so many."""

    def __init__(self, limit: float, most: int) -> None:
        self.limit = limit
        self._most = most
        self._complete = True
        self._pairs = Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))

    def limits(self, count: int) -> NDArray[np.float64]:
        return np.full(count, self.limit)

    def add(
        self, rows_a: NDArray[np.int64], rows_b: NDArray[np.int64], distances: NDArray[np.float64]
    ) -> None:
        a, b, far = (
            np.concatenate(parts) for parts in zip(self._pairs, (rows_a, rows_b, distances), strict=True)
        )
        order = np.lexsort((b, a, far))
        if len(order) > self._most:
            self._complete = False
            order = order[: self._most]
            self.limit = float(far[order[-1]])  # no pair farther than this can get in
        self._pairs = Pairs(a[order], b[order], far[order])

    def result(self, threshold: float) -> NearDuplicates:
        return NearDuplicates(*self._pairs[:2], 1 - self._pairs.distances, threshold, self._complete)


@dataclass(frozen=True)
class LeakReport:
    """What was found before training.

    Attributes:
        exact: Rows of each image whose bytes are in more than one split.
        groups: Rows of each group that is in more than one split.
        conflicts: Rows of each image whose bytes carry different labels.
        near: Near-duplicates across splits; None where no features were given.
        refusals: Why no head should be trained or judged on these splits, one sentence each; empty where it may be.
        warnings: What a user should look at, one sentence each.
    """

    exact: tuple[NDArray[np.int64], ...]
    groups: tuple[NDArray[np.int64], ...]
    conflicts: tuple[NDArray[np.int64], ...]
    near: NearDuplicates | None
    refusals: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not self.refusals and not self.warnings


def check_leaks(
    split: NDArray[np.uint8],
    content: NDArray[np.uint8],
    groups: NDArray[Any],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    *,
    X: NDArray[Any] | None = None,
    threshold: float = NEAR,
    max_pairs: int = 10_000,
    device: str = "auto",
    memory_bytes: int = MEMORY_BYTES,
) -> LeakReport:
    """Look for whatever would make scores on val or test say more than they should.

    Refused, because they are certain: equal image bytes or one group in several splits. Warned of, because only eyes can
    tell or because scores suffer but don't flatter: near-duplicates and contradictory labels. Classes that a split lacks
    are `classifiers.protocol.splits`' business.

    Args:
        split: (n,) codes of `Split`.
        content: (n, 16) digests of the image bytes.
        groups: (n,) str or bytes, empty for no group.
        labels: (n,) indices into classes, -1 unknown.
        classes: The names.
        X: (n, d) features to look for near-duplicates in; None to leave these out.
        threshold: Least centred cosine of a near-duplicate.
        max_pairs: How many near-duplicates to list at most.
        device: Where products are computed.
        memory_bytes: Bound on working memory.

    Raises:
        SplitError: Arrays that don't fit.
    """
    split, content, labels, groups = (np.asarray(part) for part in (split, content, labels, groups))
    _check(split, content, labels, groups, classes)
    exact = tuple(exact_duplicates(content, split))
    across = tuple(groups_across(groups, split))
    conflicts = tuple(conflicting_labels(content, labels))
    near = None
    if X is not None:
        near = near_duplicates(
            X, split, threshold=threshold, max_pairs=max_pairs, device=device, memory_bytes=memory_bytes
        )
    refusals = [
        *_found(exact, "image", "in more than one split; declare one split for all copies, or remove some"),
        *_found(across, "group", "in more than one split; keep each group in one"),
    ]
    warnings = [
        *_found(conflicts, "image", "labelled differently in its copies; at most one label can be right"),
        *_near(near),
    ]
    return LeakReport(exact, across, conflicts, near, tuple(refusals), tuple(warnings))


def _check(
    split: NDArray[Any],
    content: NDArray[Any],
    labels: NDArray[Any],
    groups: NDArray[Any],
    classes: Sequence[str],
) -> None:
    n = len(split)
    got = {"content": content.shape, "labels": labels.shape, "groups": groups.shape}
    expected = {"content": (n, 16), "labels": (n,), "groups": (n,)}
    for name, shape in expected.items():
        if got[name] != shape:
            raise SplitError(f"{name}: got shape {got[name]}, expected {shape}, one entry per split code")
    if n and (split.max() >= len(SPLIT_NAMES) or labels.min() < -1 or labels.max() >= len(classes)):
        raise SplitError(
            f"got split codes up to {split.max()} and labels {labels.min()} to {labels.max()}, expected codes 0 to 3 "
            f"and labels -1 to {len(classes) - 1}"
        )


def _keys(content: NDArray[np.uint8]) -> NDArray[Any]:
    return np.ascontiguousarray(content).view("V16").ravel()


def _mixed(keys: NDArray[Any], values: NDArray[Any], used: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Rows of each key that comes with more than one value."""
    rows = np.flatnonzero(used)
    _, which = np.unique(keys[rows], return_inverse=True)
    order = np.argsort(which, kind="stable")
    starts = np.flatnonzero(np.diff(which[order], prepend=-1))
    if not starts.size:
        return []
    chosen = values[rows[order]]
    differ = np.maximum.reduceat(chosen, starts) != np.minimum.reduceat(chosen, starts)
    runs = np.split(rows[order], starts[1:])
    return sorted(
        (run for run, mixed in zip(runs, differ, strict=True) if mixed), key=lambda run: int(run[0])
    )


def _mean(X: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    total = np.zeros(X.shape[1])
    for start in range(0, len(rows), 4096):
        total += X[rows[start : start + 4096]].sum(axis=0, dtype=np.float64)
    mean: NDArray[np.float64] = total / len(rows)
    return mean


def _found(found: Sequence[NDArray[np.int64]], what: str, problem: str) -> list[str]:
    if not found:
        return []
    rows = sum(len(part) for part in found)
    first = ", ".join(map(str, found[0][:4].tolist()))
    number = f"1 {what} is" if len(found) == 1 else f"{len(found):,} {what}s are"
    return [f"{number} ({rows:,} rows, e.g. {first}) {problem}"]


def _near(near: NearDuplicates | None) -> list[str]:
    if near is None or not near.cosine.size:
        return []
    more = "" if near.complete else "more than "
    images = len(np.unique(near.rows_b))
    pairs = f"{more}{near.cosine.size:,} pairs of images in different splits"
    problem = (
        f"{pairs} are nearly equal (centred cosine {near.threshold:g} or more; {images:,} images of the later splits); "
        "look at them, the most alike first"
    )
    return [problem]
