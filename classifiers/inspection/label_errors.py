"""Which labels are probably wrong: confident learning on probabilities that no row had a part in."""

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
    """Labels that are probably wrong, the most doubtful first.

    Attributes:
        rows: (m,) rows of X.
        given: (m,) the labels they have.
        suggested: (m,) the most probable labels.
        margin: (m,) probability of the given label minus that of the suggested one, from -1 to 0: the ranking.
        confidence: (m,) out-of-fold probability of the given label.
        judged: Number of rows that were judged.
        unjudged: (u,) rows whose label no training fold held, of which nothing can be said.
        per_class: Flagged rows of each given label.
    """

    rows: NDArray[np.int64]
    given: NDArray[Any]
    suggested: NDArray[Any]
    margin: NDArray[np.float64]
    confidence: NDArray[np.float64]
    judged: int
    unjudged: NDArray[np.int64]
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

    Each row's probabilities come from a head that was fitted without it. A row counts as one of class j where j's
    probability is at least the mean that j's own rows are given; counting rows by given and by such a class estimates
    how often each label stands for which class, and so many rows with the least margin are flagged (cleanlab's
    ``prune_by_noise_rate``).

    Args:
        X: (n, d) features.
        y: (n,) labels.
        estimator: An unfitted classifier with predict_proba; it's cloned for each fold. Calibrated and not overfitted
            probabilities find the most.
        folds: Number of folds, at least 2.
        groups: (n,) groups that must not be divided between folds, e.g. of near-duplicates; empty strings are rows
            of no group.
        seed: Seed of the folds.

    Raises:
        ImportError: cleanlab isn't installed.
        HeadError: Arrays that don't fit, fewer than two classes, or folds that can't be made.
    """
    filters = _cleanlab()
    y = np.asarray(y)
    classes, given = np.unique(y, return_inverse=True)
    proba, judged = out_of_fold_proba(X, y, estimator, folds=folds, groups=groups, seed=seed)
    # A class that no fold could judge must not take part: its columns are all zero.
    kept, labels = np.unique(given[judged], return_inverse=True)
    if len(kept) < 2:
        raise HeadError(
            f"got {len(kept)} classes with rows in several folds, expected at least 2; use fewer folds"
        )
    proba = proba[np.ix_(judged, kept)]
    proba /= np.maximum(proba.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    flagged = np.flatnonzero(
        filters.find_label_issues(labels, proba, filter_by="prune_by_noise_rate", n_jobs=1)
    )
    confidence = proba[flagged, labels[flagged]]
    others = proba[flagged].copy()
    others[np.arange(len(flagged)), labels[flagged]] = -np.inf
    suggested = others.argmax(axis=1)
    margin = confidence - others.max(axis=1, initial=-np.inf)
    order = np.lexsort((flagged, margin))  # cleanlab leaves the order of ties open
    rows = np.flatnonzero(judged)[flagged[order]]
    numbers = np.bincount(labels[flagged], minlength=len(kept))
    return LabelIssues(
        rows=rows,
        given=y[rows],
        suggested=classes[kept[suggested[order]]],
        margin=margin[order],
        confidence=confidence[order],
        judged=int(judged.sum()),
        unjudged=np.flatnonzero(~judged),
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
    """Probabilities of each row by a clone of the estimator that was fitted on the other folds.

    Returns:
        (n, k) float64 over the sorted labels, 0 for a label that the row's training folds don't hold; and (n,) whether
        they hold the row's own label.

    Raises:
        HeadError: Arrays that don't fit, fewer than two classes, or folds that can't be made.
    """
    y = np.asarray(y)
    classes, given = np.unique(y, return_inverse=True)
    _check(X, y, classes, folds, groups)
    proba = np.zeros((len(y), len(classes)))
    judged = np.zeros(len(y), np.bool_)
    for train, test in _folds(given, groups, folds, seed):
        fitted = clone(estimator).fit(X[train], y[train])
        columns = np.searchsorted(classes, fitted.classes_)
        proba[np.ix_(test, columns)] = fitted.predict_proba(X[test])
        judged[test] = np.isin(given[test], columns)
    return proba, judged


def _folds(
    given: NDArray[np.int64], groups: NDArray[Any] | None, folds: int, seed: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Stratified folds. Classes with fewer rows than folds are stratified as one, so that they are spread as well."""
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
    """A number for each group, and one for each row that has none."""
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
            "finding label errors needs cleanlab, which isn't installed; run pip install 'frostline[labels]'"
        ) from error
