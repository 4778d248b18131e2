"""Fitting of heads, with hyper-parameters chosen on validation rows."""

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from frostline.classifiers.errors import HeadError, SplitError
from frostline.classifiers.fitting.fitted_head import (
    Curve,
    FittedHead,
    HeadPredictions,
    gives,
    logits,
    softened,
)
from frostline.classifiers.fitting.inputs import DEFAULTS, FitOptions, LabelledRows
from frostline.classifiers.heads.catalog import HEADS, find_head
from frostline.classifiers.heads.kinds import HeadKind
from frostline.classifiers.numerics.selected_rows import SelectedRows, spans
from frostline.classifiers.protocol.calibration import fit_temperature, reliability
from frostline.classifiers.protocol.intervals import row_log_losses


def fit_head(
    name: str,
    rows: LabelledRows,
    options: FitOptions = DEFAULTS,
    *,
    refit: bool = True,
    progress: Callable[[int], None] | None = None,
) -> FittedHead:
    """Fit a head to training rows, with the hyper-parameters that have the highest accuracy on validation rows.

    Ties are broken in favour of the strongest regularisation. The temperature of the probabilities is fitted to
    the validation rows. The chosen head is then refitted to training and validation rows together, except ``mlp``,
    which keeps the network that stopped early on validation rows. No other row is read.

    Args:
        name: Kind of head; see `frostline.classifiers.heads.catalog.HEADS`.
        rows: Training rows, and validation rows, which may be empty if all parameters are fixed.
        options: Fixed parameters, seed, device and memory.
        refit: Whether to refit the chosen head with the validation rows.
        progress: Called with 1 after each candidate.

    Returns:
        The fitted head, with all trials.

    Raises:
        HeadError: The head or a parameter is unknown, the rows cannot be fitted, or they do not fit into memory.
        SplitError: There are no validation rows to choose hyper-parameters on.
    """
    began = time.perf_counter()
    task = _Task.of(name, options)
    kind = task.kind
    candidates = kind.candidates(task.options.params, len(rows.train))
    if not len(rows.val) and len(candidates) > 1:
        searched = ", ".join(candidates[0])
        raise SplitError(
            f"no validation rows to choose {searched} on; fix {'them' if len(candidates[0]) > 1 else 'it'} "
            f"(--param {next(iter(candidates[0]))}=...), or add a val split to the data"
        )
    data = _gather_rows(task, rows)
    with _errors_of(kind):
        search = _search(task, candidates, data, progress)
        best = search.best
        temperature, validation, predictions = calibrate(best.estimator, best.logits, data.held_labels)
        estimator = search.best.estimator
        if refit and kind.search != "epochs" and len(rows.val):
            estimator = _refit(task, search.best, data)
    return FittedHead(
        name=kind.name,
        estimator=estimator,
        classes=tuple(rows.classes),
        params=task.params(search.best.searched),
        trials=tuple(search.trials),
        curve=_curve(search),
        validation=validation,
        temperature=temperature,
        seconds=time.perf_counter() - began,
        dim=rows.X.shape[1],
        dtype=rows.X.dtype.name,
        validation_predictions=predictions,
    )


def predict_candidates(name: str, rows: LabelledRows, options: FitOptions = DEFAULTS) -> NDArray[np.int64]:
    """Fit each candidate of a head to training rows, and predict the classes of the validation rows.

    Arguments, order of candidates and errors are those of `fit_head`.

    Returns:
        (candidates, validation rows) class indices, with the validation rows in ascending order.
    """
    task = _Task.of(name, options)
    data = _gather_rows(task, rows)
    with _errors_of(task.kind):
        fits = _fits(task, task.kind.candidates(task.options.params, len(rows.train)), data)
        return np.stack([estimator.predict(data.held_rows) for _, estimator, _ in fits])


def score_candidates(
    name: str,
    rows: LabelledRows,
    candidates: Sequence[Mapping[str, Any]],
    options: FitOptions = DEFAULTS,
) -> list[dict[str, float]]:
    """Fit candidates to training rows, and score them on validation rows.

    Args:
        name: Kind of head. Errors are those of `fit_head`.
        rows: Training rows, and validation rows for scores and early stopping.
        candidates: Parameters of each candidate, except the fixed ones. Candidates that differ only in
            ``HeadKind.together`` are trained together. Candidates of one path must be sorted by decreasing
            strength.
        options: Fixed parameters of all candidates, seed, device and memory.

    Returns:
        ``accuracy``, ``log_loss`` and ``seconds`` of each candidate.
    """
    task = _Task.of(name, options)
    data = _gather_rows(task, rows)
    with _errors_of(task.kind):
        trials = _search(task, candidates, data, None).trials
    return [{name: trial[name] for name in ("accuracy", "log_loss", "seconds")} for trial in trials]


@dataclass(frozen=True)
class _Task:
    """Kind of head and options of a fit."""

    kind: HeadKind
    options: FitOptions

    @classmethod
    def of(cls, name: str, options: FitOptions) -> "_Task":
        kind = find_head(name, options.trusted)
        return cls(kind, options.checked(kind))

    def params(self, searched: Mapping[str, Any]) -> dict[str, Any]:
        """Return all parameters of a candidate."""
        return self.kind.complete({**self.options.params, **searched})

    def estimator(self, searched: Mapping[str, Any]) -> Any:
        """Return the unfitted estimator of a candidate."""
        options = self.options
        built = self.kind.build(self.params(searched), options.seed, options.device)
        if self.kind.streams and options.memory is not None:
            # The other half is for validation rows and the solver.
            built.set_params(memory=options.memory // 2)
        return built


@dataclass(frozen=True)
class _Data:
    """Training rows, validation rows, and both in this order."""

    rows: NDArray[Any] | SelectedRows
    labels: NDArray[np.int64]
    held_rows: NDArray[Any] | SelectedRows
    held_labels: NDArray[np.int64]
    both: NDArray[Any] | SelectedRows
    n_classes: int


@dataclass(frozen=True)
class _Attempt:
    """One candidate, fitted to the training rows and scored on the validation rows."""

    searched: Mapping[str, Any]
    estimator: Any
    logits: NDArray[np.float64]
    scores: Mapping[str, float]


@dataclass
class _Search:
    """Trials so far, and the best attempt; ties are broken in favour of the first."""

    best: _Attempt
    trials: list[dict[str, Any]] = field(default_factory=list)


def _gather_rows(task: _Task, given: LabelledRows) -> _Data:
    """Return the validated rows: a copy in memory or, for a head that streams, a lazy selection."""
    train, val, n_classes = given.train, given.val, len(given.classes)
    labels, held_labels, memory = given.y[train], given.y[val], task.options.memory
    both = SelectedRows(given.X, np.concatenate([train, val]))
    rows, held = SelectedRows(given.X, train), SelectedRows(given.X, val)
    if not task.kind.streams:
        _check_memory(task.kind, both, memory)
        taken = np.empty(both.shape, both.wide_dtype)
        rows.copy_to(taken[: len(train)])
        held.copy_to(taken[len(train) :])
        return _Data(taken[: len(train)], labels, taken[len(train) :], held_labels, taken, n_classes)
    rows.check()
    if memory is None or 4 * _bytes(held) <= memory:
        return _Data(rows, labels, held.copy(), held_labels, both, n_classes)  # read once per candidate
    held.check()
    return _Data(rows, labels, held, held_labels, both, n_classes)


def _bytes(rows: SelectedRows) -> int:
    """Return the size of a copy of the rows in bytes."""
    return len(rows) * rows.shape[1] * rows.wide_dtype.itemsize


def _check_memory(kind: HeadKind, rows: SelectedRows, memory: int | None) -> None:
    # A copy, and the arrays that the head derives from it, e.g. the standardised rows.
    needed = 2 * _bytes(rows)
    if memory is not None and needed > memory:
        streaming = " or ".join(name for name in HEADS.builtin if HEADS[name].streams)
        raise HeadError(
            f"head {kind.name!r} needs all of its rows in memory: {len(rows):,} x {rows.shape[1]:,} take {needed / 1e9:.2g} GB"
            f" including derived arrays, expected at most {memory / 1e9:.2g} GB; use {streaming}, which reads rows in"
            " blocks, allow more memory, or project the features to fewer dimensions"
        )


@contextmanager
def _errors_of(kind: HeadKind) -> Iterator[None]:
    """Convert ValueError of scikit-learn to HeadError."""
    try:
        yield
    except HeadError:
        raise
    except ValueError as error:
        raise HeadError(f"head {kind.name!r} can't be fitted: {error}") from error


def _search(
    task: _Task,
    candidates: Sequence[Mapping[str, Any]],
    data: _Data,
    progress: Callable[[int], None] | None,
) -> _Search:
    search: _Search | None = None
    began = time.perf_counter()
    for searched, estimator, facts in _fits(task, candidates, data):
        seconds = time.perf_counter() - began
        found, scores = _score(task.kind, estimator, data)
        attempt = _Attempt(searched, estimator, found, scores)
        if search is None:
            search = _Search(attempt)
        elif scores["accuracy"] > search.best.scores["accuracy"]:
            search.best = attempt
        tried = {"accuracy": scores.get("accuracy"), "log_loss": scores.get("log_loss")}
        search.trials.append({**searched, **tried, "seconds": seconds, **facts})
        if progress:
            progress(1)
        began = time.perf_counter()
    if search is None:
        raise HeadError(f"head {task.kind.name!r}: got no candidates, expected at least one")
    return search


_Fits = Iterator[tuple[Mapping[str, Any], Any, dict[str, Any]]]


def _fits(task: _Task, candidates: Sequence[Mapping[str, Any]], data: _Data) -> _Fits:
    if task.kind.together:
        return _fit_together(task, candidates, data)
    return (_fit_path if task.kind.search == "path" else _fit_each)(task, candidates, data)


def _fit_path(task: _Task, candidates: Sequence[Mapping[str, Any]], data: _Data) -> _Fits:
    """Fit each stretch of candidates that differ only in l2 as one path, started at the previous solution."""
    for others, stretch in groupby(candidates, key=lambda candidate: {**candidate, "l2": None}):
        members = list(stretch)
        estimator = task.estimator({**others, "l2": task.params(members[0])["l2"]})
        path = estimator.path(data.rows, data.labels, [task.params(member)["l2"] for member in members])
        for candidate, head in zip(members, path, strict=True):
            facts = {"converged": head.converged_, "objective": head.objective_, "iterations": head.n_iter_}
            yield candidate, head, facts


def _fit_each(task: _Task, candidates: Sequence[Mapping[str, Any]], data: _Data) -> _Fits:
    options = _stopping(data) if task.kind.search == "epochs" else {}
    for candidate in candidates:
        estimator = task.estimator(candidate)
        # NearestCentroid computes the spread within classes, which is 0 / 0 for one row per class and not used here.
        with _convergence() as converged, np.errstate(invalid="ignore"):
            warnings.filterwarnings("ignore", "self.within_class_std_dev_", UserWarning)
            estimator.fit(data.rows, data.labels, **options)
        yield candidate, estimator, {"converged": converged()}


def _fit_together(task: _Task, candidates: Sequence[Mapping[str, Any]], data: _Data) -> _Fits:
    """Fit candidates of one architecture in one batched program; the time is divided equally between them."""
    from frostline.classifiers.heads.mlp import fit_together

    groups: dict[str, list[int]] = {}
    for index, candidate in enumerate(candidates):
        groups.setdefault(task.kind.architecture(task.params(candidate)), []).append(index)
    fits: dict[int, tuple[Any, float]] = {}
    for indices in groups.values():
        began = time.perf_counter()
        heads = [task.estimator(candidates[index]) for index in indices]
        fit_together(heads, np.asarray(data.rows), data.labels, **_stopping(data))
        seconds = (time.perf_counter() - began) / len(indices)
        fits |= {index: (head, seconds) for index, head in zip(indices, heads, strict=True)}
    for index, candidate in enumerate(candidates):
        head, seconds = fits[index]
        yield candidate, head, {"seconds": seconds, "converged": True}


def _stopping(data: _Data) -> dict[str, Any]:
    """Return the validation rows for early stopping: those with a class that occurs in the training rows."""
    known = np.isin(data.held_labels, data.labels)
    return {"validation": (data.held_rows[known], data.held_labels[known])} if known.any() else {}


@contextmanager
def _convergence() -> Iterator[Callable[[], bool]]:
    """Record ConvergenceWarning within a context, instead of showing one warning per candidate."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        yield lambda: not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    for warning in caught:
        if not issubclass(warning.category, ConvergenceWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def _score(kind: HeadKind, estimator: Any, data: _Data) -> tuple[NDArray[np.float64], dict[str, float]]:
    """Return logits, accuracy and log loss on validation rows; scores other than probabilities are calibrated first."""
    parts = [
        logits(kind, estimator, data.held_rows[part], data.n_classes) for part in spans(*data.held_rows.shape)
    ]
    if not parts:
        return np.empty((0, data.n_classes)), {}
    found = np.concatenate(parts)
    temperature = (
        1.0 if gives(kind, estimator) == "proba" else _temperature(estimator, found, data.held_labels)
    )
    return found, _scores(softened(found, temperature), data.held_labels)


def _temperature(estimator: Any, found: NDArray[np.float64], y: NDArray[np.int64]) -> float:
    """Fit the temperature to the validation rows whose class is known to the estimator."""
    known = np.isin(y, estimator.classes_)
    columns = np.searchsorted(estimator.classes_, y[known])
    return fit_temperature(found[np.ix_(known, estimator.classes_)], columns)


def _scores(proba: NDArray[np.float64], y: NDArray[np.int64]) -> dict[str, float]:
    accuracy = float((proba.argmax(axis=1) == y).mean())
    return {"accuracy": accuracy, "log_loss": float(row_log_losses(y, proba).mean())}


def calibrate(
    estimator: Any, found: NDArray[np.float64], y: NDArray[np.int64]
) -> tuple[float, dict[str, float], HeadPredictions]:
    """Fit the temperature of a head to validation rows.

    Args:
        estimator: Fitted estimator whose ``classes_`` are class indices.
        found: (n, k) logits of the rows, -inf for classes unknown to the estimator.
        y: (n,) class indices of the rows.

    Returns:
        The temperature, the scores of `FittedHead.validation`, and the predictions of the rows.
    """
    if not len(y):
        return 1.0, {}, HeadPredictions.of(found)
    temperature = _temperature(estimator, found, y)
    before, after = softened(found, 1.0), softened(found, temperature)
    scores = {
        **_scores(after, y),
        "rms_calibration_error": reliability(y, after).rms_calibration_error.value,
        "uncalibrated_log_loss": _scores(before, y)["log_loss"],
        "uncalibrated_rms_calibration_error": reliability(y, before).rms_calibration_error.value,
    }
    return temperature, scores, HeadPredictions.of(after)


def _refit(task: _Task, best: _Attempt, data: _Data) -> Any:
    """Refit the chosen head to training and validation rows; the linear head starts at its solution on the path."""
    labels = np.concatenate([data.labels, data.held_labels])
    estimator = task.estimator(best.searched)
    if task.kind.search == "path" and np.isin(data.held_labels, best.estimator.classes_).all():
        start = {"coef_init": best.estimator.coef_, "intercept_init": best.estimator.intercept_}
        return estimator.fit(data.both, labels, **start)
    return estimator.fit(data.both, labels)


def _curve(search: _Search) -> Curve | None:
    """Return the learning curve of a head with epochs, or the scores along a single searched number."""
    if hasattr(search.best.estimator, "history_"):
        return _learning_curve(search.best.estimator)
    trials, (*names,) = search.trials, search.best.searched
    if len(names) != 1 or len(trials) < 2 or not isinstance(trials[0][names[0]], int | float):
        return None
    x = tuple(float(trial[names[0]]) for trial in trials)
    labels = {
        "accuracy": "validation accuracy",
        "log_loss": "validation loss",
        "objective": "objective",
        "iterations": "iterations",
    }
    series = {
        label: tuple(trial[key] for trial in trials) for key, label in labels.items() if key in trials[0]
    }
    return Curve(names[0], x, series, float(search.best.searched[names[0]]), max(x) >= 100 * min(x) > 0)


def _learning_curve(estimator: Any) -> Curve:
    epochs = estimator.history_
    columns = {
        "train loss": tuple(epoch.train_loss for epoch in epochs),
        "validation loss": tuple(epoch.validation_loss for epoch in epochs),
        "validation accuracy": tuple(epoch.validation_accuracy for epoch in epochs),
        "lr": tuple(epoch.lr for epoch in epochs),
    }
    series = {name: column for name, column in columns.items() if not math.isnan(column[0])}
    x = tuple(float(epoch) for epoch in range(1, len(epochs) + 1))
    return Curve("epoch", x, series, float(estimator.best_epoch_ + 1), log_x=False)
