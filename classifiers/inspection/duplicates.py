"""Detection of leaks between splits (equal images, near-duplicates, groups) and of conflicting labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.errors import HeadError, SplitError
from frostline.classifiers.inspection.near import NEAR
from frostline.numerics.devices import resolve_device
from frostline.numerics.neighbors import MEMORY_BYTES, Pairs, RowSearch, Vectors
from frostline.splits import SPLIT_NAMES, Split


def exact_duplicates(content: NDArray[np.uint8], split: NDArray[np.uint8]) -> list[NDArray[np.int64]]:
    """Find images whose bytes occur in more than one split.

    Args:
        content: (n, 16) digests of the image bytes.
        split: (n,) codes of `Split`. Rows with `Split.NONE` are ignored.

    Returns:
        One sorted array of row indices per such image, ordered by first row.
    """
    return _rows_with_several_values(_keys(content), split, split != Split.NONE)


def groups_across(groups: NDArray[Any], split: NDArray[np.uint8]) -> list[NDArray[np.int64]]:
    """Find groups (e.g. the images of one patient) that occur in more than one split.

    Args:
        groups: (n,) str or bytes, empty for no group.
        split: (n,) codes of `Split`. Rows with `Split.NONE` are ignored.

    Returns:
        One sorted array of row indices per such group, ordered by first row.
    """
    return _rows_with_several_values(groups, split, (split != Split.NONE) & (groups != groups.dtype.type()))


def conflicting_labels(content: NDArray[np.uint8], labels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Find images whose copies have different labels.

    Args:
        content: (n, 16) digests of the image bytes.
        labels: (n,) class indices. Rows without a label (-1) are ignored.

    Returns:
        One sorted array of row indices per such image, ordered by first row.
    """
    return _rows_with_several_values(_keys(content), labels, labels >= 0)


def split_centre(X: Any, split: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the (d,) mean of the training rows, or of all rows in a split if train is empty.

    Args:
        X: (n, d) floats of any width, read in blocks.
        split: (n,) codes of `Split`. Rows in a split are finite.
    """
    central = split == Split.TRAIN
    rows = np.flatnonzero(central if central.any() else split != Split.NONE)
    total = np.zeros(X.shape[1])
    for start in range(0, len(rows), 4096):
        total += X[rows[start : start + 4096]].sum(axis=0, dtype=np.float64)
    mean: NDArray[np.float64] = total / len(rows)
    return mean


class NearDuplicates(NamedTuple):
    """Pairs of similar rows in different splits, in descending order of similarity."""

    rows_a: NDArray[np.int64]  # (p,) rows in the earlier split, in the order train, val, test
    rows_b: NDArray[np.int64]  # (p,) rows in the later split
    cosine: NDArray[np.float64]  # (p,) cosine of the centred features
    threshold: float
    complete: bool  # whether the list contains all pairs; otherwise it contains the most similar ones


def near_duplicates(
    X: NDArray[Any],
    split: NDArray[np.uint8],
    *,
    threshold: float = NEAR,
    max_pairs: int = 10_000,
    device: str = "auto",
    memory_bytes: int = MEMORY_BYTES,
) -> NearDuplicates:
    """Find all pairs of rows in different splits whose centred features have at least a given cosine.

    Features are centred on the mean of the training rows, or on the mean of all rows in a split if train is empty.
    Without centring, the component common to all images makes cosines large and dependent on the backbone. The
    search is exact (`frostline.numerics.neighbors`) and works in blocks. It takes the time of one matrix product
    between the splits. Rows that are not finite, e.g. of unreadable images, must not be in a split.

    Args:
        X: (n, d) floats of any width, e.g. a memory map.
        split: (n,) codes of `Split`. Rows with `Split.NONE` are ignored.
        threshold: Smallest cosine, in (-1, 1].
        max_pairs: Largest number of pairs to return. The most similar pairs are kept.
        device: Device of the matrix products.
        memory_bytes: Limit on working memory in bytes, not counting the pairs.

    Returns:
        The pairs, in descending order of cosine.

    Raises:
        SplitError: The shapes do not match, or the threshold or the number of pairs is out of range.
    """
    if len(X) != len(split) or not -1 < threshold <= 1 or max_pairs < 1:
        raise SplitError(
            f"got {len(X)} rows of features, {len(split)} split codes, threshold={threshold} and max_pairs={max_pairs}, "
            "expected as many codes as rows, a threshold above -1 and at most 1, and at least one pair"
        )
    members = [rows for code in range(1, len(SPLIT_NAMES)) if (rows := np.flatnonzero(split == code)).size]
    best = _NearestPairs(1 - threshold, max_pairs)
    if len(members) > 1:
        centre = split_centre(X, split)
        for index, earlier in enumerate(members[:-1]):
            search = RowSearch(
                Vectors(X, earlier),
                metric="cosine",
                device=resolve_device(device, HeadError),
                centre=centre,
                memory_bytes=memory_bytes,
            )
            for later in members[index + 1 :]:
                limits = best.limits(len(later))
                for pairs in search.within(Vectors(X, later), limits):
                    best.add(earlier[pairs.rows], later[pairs.queries], pairs.distances)
                    limits[:] = best.limit
    return best.result(threshold)


class _NearestPairs:
    """The nearest of all added pairs, up to a maximum number."""

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
            self.limit = float(far[order[-1]])  # farther pairs cannot be among the nearest
        self._pairs = Pairs(a[order], b[order], far[order])

    def result(self, threshold: float) -> NearDuplicates:
        return NearDuplicates(*self._pairs[:2], 1 - self._pairs.distances, threshold, self._complete)


@dataclass(frozen=True)
class LeakReport:
    """Leaks between splits and conflicting labels.

    Attributes:
        exact: Rows of each image that occurs in more than one split.
        groups: Rows of each group that occurs in more than one split.
        conflicts: Rows of each image whose copies have different labels.
        near: Near-duplicates across splits; None if no features were given.
        refusals: Reasons not to train or evaluate heads on these splits, one sentence each.
        warnings: Findings that a user should check, one sentence each.
    """

    exact: tuple[NDArray[np.int64], ...]
    groups: tuple[NDArray[np.int64], ...]
    conflicts: tuple[NDArray[np.int64], ...]
    near: NearDuplicates | None
    refusals: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Whether there are no refusals and no warnings."""
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
    """Find leaks that would make scores on val or test too optimistic, and conflicting labels.

    Equal images and groups in several splits are certain leaks and become refusals. Near-duplicates need a visual
    check, and conflicting labels do not inflate scores, so that both become warnings.
    `frostline.classifiers.protocol.splits` reports classes that are missing from a split.

    Args:
        split: (n,) codes of `Split`.
        content: (n, 16) digests of the image bytes.
        groups: (n,) str or bytes, empty for no group.
        labels: (n,) indices into classes, -1 if unknown.
        classes: Class names.
        X: (n, d) features to search for near-duplicates; None to skip this search.
        threshold: Smallest centred cosine of a near-duplicate.
        max_pairs: Largest number of near-duplicates to list.
        device: Device of the matrix products.
        memory_bytes: Limit on working memory in bytes.

    Returns:
        The findings, with one sentence per refusal or warning.

    Raises:
        SplitError: The shapes do not match, or codes or labels are out of range.
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
        *_describe(
            exact, "image", "in more than one split; declare one split for all copies, or remove some"
        ),
        *_describe(across, "group", "in more than one split; keep each group in one"),
    ]
    warnings = [
        *_describe(conflicts, "image", "labelled differently in its copies; at most one label can be right"),
        *_near_warnings(near),
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


def _rows_with_several_values(
    keys: NDArray[Any], values: NDArray[Any], used: NDArray[np.bool_]
) -> list[NDArray[np.int64]]:
    """Return the rows of each key that has more than one value."""
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


def _describe(found: Sequence[NDArray[np.int64]], what: str, problem: str) -> list[str]:
    if not found:
        return []
    rows = sum(len(part) for part in found)
    first = ", ".join(map(str, found[0][:4].tolist()))
    number = f"1 {what} is" if len(found) == 1 else f"{len(found):,} {what}s are"
    return [f"{number} ({rows:,} rows, e.g. {first}) {problem}"]


def _near_warnings(near: NearDuplicates | None) -> list[str]:
    if near is None or not near.cosine.size:
        return []
    more = "" if near.complete else "more than "
    images = len(np.unique(near.rows_b))
    pairs = f"{more}{near.cosine.size:,} pairs of images in different splits"
    problem = (
        f"{pairs} are nearly equal (centred cosine {near.threshold:g} or more; {images:,} images of the later splits); "
        "check them, starting with the most similar"
    )
    return [problem]
