"""Detection of label errors by confident learning on out-of-fold probabilities."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from frostline.classifiers.errors import HeadError


@dataclass(frozen=True)
class LabelIssues:
    """Labels that are probably wrong, sorted by margin with the most doubtful label first.

    Attributes:
        rows: (m,) row indices into X.
        given: (m,) given labels.
        suggested: (m,) most probable labels.
        margin: (m,) probability of the given label minus that of the suggested label, from -1 to 0.
        confidence: (m,) out-of-fold probability of the given label.
        scored: Number of scored rows.
        unscored: (u,) rows that could not be scored because their training folds lack their label.
        per_class: Number of flagged rows per given label.
    """

    rows: NDArray[np.int64]
    given: NDArray[Any]
    suggested: NDArray[Any]
    margin: NDArray[np.float64]
    confidence: NDArray[np.float64]
    scored: int
    unscored: NDArray[np.int64]
    per_class: dict[Any, int]


def find_label_errors(
    X: Any,
    y: NDArray[Any],
    estimator: Any,
    *,
    folds: int = 5,
    groups: NDArray[Any] | None = None,
    seed: int = 0,
) -> LabelIssues:
    """Rank the labels that are probably wrong, by confident learning (Northcutt, Jiang & Chuang 2021).

    The probabilities of each row come from a head that was fitted without that row. A row counts as a member of
    class j if its probability of j is at least the mean probability of j over the rows labelled j. The counts of
    rows by given label and by counted class estimate the noise rate of each pair. For each pair, the corresponding
    number of rows with the smallest margin is flagged (``prune_by_noise_rate`` of cleanlab).

    Args:
        X: (n, d) features.
        y: (n,) labels.
        estimator: Unfitted classifier with predict_proba. It is cloned for each fold. Detection works best with
            calibrated probabilities that are not overfitted.
        folds: Number of folds, at least 2.
        groups: (n,) groups that are kept within one fold, e.g. of near-duplicates. An empty string means no group.
        seed: Random seed of the folds.

    Returns:
        The flagged rows with given and suggested labels.

    Raises:
        ImportError: cleanlab is not installed.
        HeadError: The shapes do not match, there are fewer than two classes, or the folds cannot be made.
    """
    filters = _cleanlab()
    y = np.asarray(y)
    classes, given = np.unique(y, return_inverse=True)
    proba, scored = out_of_fold_proba(X, y, estimator, folds=folds, groups=groups, seed=seed)
    # Exclude classes that no fold could judge: their columns are all zero.
    kept, labels = np.unique(given[scored], return_inverse=True)
    if len(kept) < 2:
        raise HeadError(
            f"got {len(kept)} classes with rows in several folds, expected at least 2; use fewer folds"
        )
    proba = proba[np.ix_(scored, kept)]
    proba /= np.maximum(proba.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    flagged = np.flatnonzero(
        filters.find_label_issues(labels, proba, filter_by="prune_by_noise_rate", n_jobs=1)
    )
    confidence = proba[flagged, labels[flagged]]
    others = proba[flagged].copy()
    others[np.arange(len(flagged)), labels[flagged]] = -np.inf
    suggested = others.argmax(axis=1)
    margin = confidence - others.max(axis=1, initial=-np.inf)
    order = np.lexsort((flagged, margin))  # cleanlab does not define the order of ties
    rows = np.flatnonzero(scored)[flagged[order]]
    numbers = np.bincount(labels[flagged], minlength=len(kept))
    return LabelIssues(
        rows=rows,
        given=y[rows],
        suggested=classes[kept[suggested[order]]],
        margin=margin[order],
        confidence=confidence[order],
        scored=int(scored.sum()),
        unscored=np.flatnonzero(~scored),
        per_class={
            classes[name].item(): int(count) for name, count in zip(kept, numbers, strict=True) if count
        },
    )


def out_of_fold_proba(
    X: Any,
    y: NDArray[Any],
    estimator: Any,
    *,
    folds: int = 5,
    groups: NDArray[Any] | None = None,
    seed: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Compute out-of-fold probabilities, each by a clone of the estimator that was fitted on the other folds.

    The arguments are those of `find_label_errors`.

    Returns:
        proba: (n, k) float64 probabilities of the sorted labels, 0 for a label missing from the training folds of
            the row.
        scored: (n,) bool, whether the training folds of the row contain the label of the row.

    Raises:
        HeadError: The shapes do not match, there are fewer than two classes, or the folds cannot be made.
    """
    y = np.asarray(y)
    classes, given = np.unique(y, return_inverse=True)
    _check(X, y, classes, folds, groups)
    proba = np.zeros((len(y), len(classes)))
    scored = np.zeros(len(y), np.bool_)
    for train, test in _folds(given, groups, folds, seed):
        fitted = clone(estimator).fit(X[train], y[train])
        columns = np.searchsorted(classes, fitted.classes_)
        proba[np.ix_(test, columns)] = fitted.predict_proba(X[test])
        scored[test] = np.isin(given[test], columns)
    return proba, scored


def _folds(
    given: NDArray[np.int64], groups: NDArray[Any] | None, folds: int, seed: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return stratified folds; classes with fewer rows than folds are pooled into one stratum."""
    counts = np.bincount(given)
    strata = np.where(counts[given] < folds, len(counts), given)
    rest = np.flatnonzero(strata == len(counts))
    if 0 < len(rest) < folds:
        strata[rest] = np.flatnonzero(counts >= folds)[0] if (counts >= folds).any() else 0
    if groups is None:
        splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
        return list(splitter.split(strata, strata))
    grouped = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    return list(grouped.split(strata, strata, _group_codes(groups)))


def _group_codes(groups: NDArray[Any]) -> NDArray[np.int64]:
    """Return (n,) integer codes of the groups; each row without a group gets a code of its own."""
    names, codes = np.unique(groups, return_inverse=True)
    codes = codes.astype(np.int64)
    if groups.dtype.kind in "SU":
        alone = np.flatnonzero(groups == groups.dtype.type())
        codes[alone] = len(names) + np.arange(len(alone))
    return codes


def _check(X: Any, y: NDArray[Any], classes: NDArray[Any], folds: int, groups: NDArray[Any] | None) -> None:
    if y.ndim != 1 or len(X) != len(y) or (groups is not None and len(groups) != len(y)):
        raise HeadError(
            f"got {len(X)} rows of features, labels of shape {y.shape} and "
            f"{'no' if groups is None else len(groups)} groups, expected one label and one group per row"
        )
    if len(classes) < 2:
        raise HeadError(f"labels: got {len(classes)} classes, expected at least 2")
    units = len(y) if groups is None else len(np.unique(_group_codes(groups)))
    if not 2 <= folds <= units:
        raise HeadError(
            f"folds: got {folds}, expected 2 to {units}, the number of {'rows' if groups is None else 'groups'}"
        )


def _cleanlab() -> Any:
    try:
        return import_module("cleanlab.filter")
    except ImportError as error:
        raise ImportError(
            "finding label errors needs cleanlab, which isn't installed; run pip install 'frostline[label-errors]'"
        ) from error
