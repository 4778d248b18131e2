"""Fitting a head: hyper-parameters chosen on validation rows, and no other row ever read."""

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from frostline.classifiers.errors import HeadError, SplitError
from frostline.classifiers.fitting.fitted import Curve, FittedHead, Verdicts, gives, logits, softened
from frostline.classifiers.fitting.inputs import DEFAULTS, FitOptions, LabelledRows
from frostline.classifiers.heads.catalog import HEADS, find_head
from frostline.classifiers.heads.kinds import HeadKind
from frostline.classifiers.numerics.selected_rows import SelectedRows, spans
from frostline.classifiers.protocol.calibration import fit_temperature, reliability

_CLIP = float(np.finfo(np.float64).eps)


def fit_head(
    name: str,
    rows: LabelledRows,
    options: FitOptions = DEFAULTS,
    *,
    refit: bool = True,
    progress: Callable[[int], None] | None = None,
) -> FittedHead:
    """Fit a head on training rows, with the hyper-parameters that do best on validation rows.

    The best validation accuracy wins, and of equal ones the strongest regularisation. The chosen head is then fitted
    again to training and validation rows together, but for ``mlp``, which keeps the network that stopped early on
    validation. The temperature of its probabilities is fitted to validation rows before that. Other rows are never read.

    Args:
        name: Kind of head; see `classifiers.heads.catalog.HEADS`.
        rows: Rows to fit, and rows to choose on; there may be none of these where nothing is left to choose.
        options: Parameters to fix, seed, device and memory.
        refit: Whether to fit the chosen head again with the validation rows.
        progress: Called with 1 after each candidate.

    Raises:
        HeadError: No such head or parameter, rows that can't be fitted, or more of them than fit into memory.
        SplitError: Nothing to choose hyper-parameters on.
    """
    began = time.perf_counter()
    task = _Task.of(name, options)
    kind = task.kind
    candidates = kind.candidates(task.options.params, len(rows.train))
    if not len(rows.val) and len(candidates) > 1:
        searched = ", ".join(candidates[0])
        raise SplitError(
            f"no validation rows to choose {searched} on; fix {'them' if len(candidates[0]) > 1 else 'it'} "
            f"(--param {next(iter(candidates[0]))}=...), or give the data a val split"
        )
    data = _bring(task, rows)
    with _errors_of(kind):
        search = _search(task, candidates, data, progress)
        best = search.best
        temperature, validation, verdicts = calibrate(best.estimator, best.logits, data.held_labels)
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
        verdicts=verdicts,
    )


def predict_candidates(name: str, rows: LabelledRows, options: FitOptions = DEFAULTS) -> NDArray[np.int64]:
    """(candidates, validation rows) classes that each candidate of a head, fitted to training rows, gives validation rows.

    Arguments, order of candidates and errors as in `fit_head`; validation rows in ascending order.
    """
    task = _Task.of(name, options)
    data = _bring(task, rows)
    with _errors_of(task.kind):
        fits = _fits(task, task.kind.candidates(task.options.params, len(rows.train)), data)
        return np.stack([estimator.predict(data.held_rows) for _, estimator, _ in fits])


def score_candidates(
    name: str,
    rows: LabelledRows,
    candidates: Sequence[Mapping[str, Any]],
    options: FitOptions = DEFAULTS,
) -> list[dict[str, float]]:
    """``accuracy`` and ``log_loss`` on validation rows, and ``seconds``, of candidates fitted to training rows.

    Args:
        name: Kind of head; errors are those of `fit_head`.
        rows: Rows to fit, and rows to judge on, and for some heads to stop early on.
        candidates: Parameters of each, apart from those that are fixed; those of a head that trains some together may differ in
            ``HeadKind.together`` alone to be so trained, and those that are one path come strongest first.
        options: Parameters that all have, seed, device and memory.
    """
    task = _Task.of(name, options)
    data = _bring(task, rows)
    with _errors_of(task.kind):
        trials = _search(task, candidates, data, None).trials
    return [{name: trial[name] for name in ("accuracy", "log_loss", "seconds")} for trial in trials]


@dataclass(frozen=True)
class _Task:
    """What to fit, apart from rows."""

    kind: HeadKind
    options: FitOptions

    @classmethod
    def of(cls, name: str, options: FitOptions) -> "_Task":
        kind = find_head(name)
        return cls(kind, options.checked(kind))

    def params(self, searched: Mapping[str, Any]) -> dict[str, Any]:
        """All parameters of a candidate."""
        return self.kind.complete({**self.options.params, **searched})

    def estimator(self, searched: Mapping[str, Any]) -> Any:
        """An unfitted estimator of a candidate."""
        options = self.options
        built = self.kind.build(self.params(searched), options.seed, options.device)
        if self.kind.streams and options.memory is not None:
            built.set_params(
                memory=options.memory // 2
            )  # the rest is for validation rows and the solver itself
        return built


@dataclass(frozen=True)
class _Data:
    """Training rows, then validation rows, and nothing else."""

    rows: NDArray[Any] | SelectedRows
    labels: NDArray[np.int64]
    held_rows: NDArray[Any] | SelectedRows
    held_labels: NDArray[np.int64]
    both: NDArray[Any] | SelectedRows
    n_classes: int


@dataclass(frozen=True)
class _Attempt:
    """One candidate, fitted to the training rows and judged on the validation rows."""

    searched: Mapping[str, Any]
    estimator: Any
    logits: NDArray[np.float64]
    scores: Mapping[str, float]


@dataclass
class _Search:
    """What was tried so far; the best comes first of its equals."""

    best: _Attempt
    trials: list[dict[str, Any]] = field(default_factory=list)


def _bring(task: _Task, given: LabelledRows) -> _Data:
    """The rows, checked: a copy of them in memory, or for a head that streams, to be read where they are."""
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
        return _Data(rows, labels, held.copy(), held_labels, both, n_classes)  # judged on once per candidate
    held.check()
    return _Data(rows, labels, held, held_labels, both, n_classes)


def _bytes(rows: SelectedRows) -> int:
    """What a copy of the rows takes."""
    return len(rows) * rows.shape[1] * rows.wide_dtype.itemsize


def _check_memory(kind: HeadKind, rows: SelectedRows, memory: int | None) -> None:
    needed = 2 * _bytes(rows)  # a copy, and what the head makes of it: the same rows standardised, say
    if memory is not None and needed > memory:
        streaming = " or ".join(name for name in HEADS.builtin if HEADS[name].streams)
        raise HeadError(
            f"head {kind.name!r} needs all of its rows in memory: {len(rows):,} x {rows.shape[1]:,} take {needed / 1e9:.2g} GB"
            f" with what it makes of them, expected at most {memory / 1e9:.2g} GB; use {streaming}, which reads rows in"
            " blocks, allow more memory, or project the features to fewer"
        )


@contextmanager
def _errors_of(kind: HeadKind) -> Iterator[None]:
    """What scikit-learn refuses, as this package's error."""
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
        found, judged = _judge(task.kind, estimator, data)
        attempt = _Attempt(searched, estimator, found, judged)
        if search is None:
            search = _Search(attempt)
        elif judged["accuracy"] > search.best.scores["accuracy"]:
            search.best = attempt
        tried = {"accuracy": judged.get("accuracy"), "log_loss": judged.get("log_loss")}
        search.trials.append({**searched, **tried, "seconds": seconds, **facts})
        if progress:
            progress(1)
        began = time.perf_counter()
    if search is None:
        raise HeadError(f"head {task.kind.name!r}: nothing to try")
    return search


_Fits = Iterator[tuple[Mapping[str, Any], Any, dict[str, Any]]]


def _fits(task: _Task, candidates: Sequence[Mapping[str, Any]], data: _Data) -> _Fits:
    if task.kind.together:
        return _fit_together(task, candidates, data)
    return (_fit_path if task.kind.search == "path" else _fit_each)(task, candidates, data)


def _fit_path(task: _Task, candidates: Sequence[Mapping[str, Any]], data: _Data) -> _Fits:
    """Candidates that differ in l2 alone, each started at the solution of the one before."""
    l2s = [task.params(candidate)["l2"] for candidate in candidates]
    path = task.estimator({}).path(data.rows, data.labels, l2s)
    for candidate, head in zip(candidates, path, strict=True):
        facts = {"converged": head.converged_, "objective": head.objective_, "iterations": head.n_iter_}
        yield candidate, head, facts


def _fit_each(task: _Task, candidates: Sequence[Mapping[str, Any]], data: _Data) -> _Fits:
    options = _stopping(data) if task.kind.search == "epochs" else {}
    for candidate in candidates:
        estimator = task.estimator(candidate)
        # NearestCentroid looks at the spread within classes, of which a plain one makes no use: 0 / 0 for one row a class.
        with _convergence() as converged, np.errstate(invalid="ignore"):
            warnings.filterwarnings("ignore", "self.within_class_std_dev_", UserWarning)
            estimator.fit(data.rows, data.labels, **options)
        yield candidate, estimator, {"converged": converged()}


def _fit_together(task: _Task, candidates: Sequence[Mapping[str, Any]], data: _Data) -> _Fits:
    """Candidates of one architecture as one batched program; each has its share of the time."""
    from frostline.classifiers.heads.mlp import fit_together

    groups: dict[str, list[int]] = {}
    for place, candidate in enumerate(candidates):
        groups.setdefault(task.kind.architecture(task.params(candidate)), []).append(place)
    fits: dict[int, tuple[Any, float]] = {}
    for places in groups.values():
        began = time.perf_counter()
        heads = [task.estimator(candidates[place]) for place in places]
        fit_together(heads, np.asarray(data.rows), data.labels, **_stopping(data))
        seconds = (time.perf_counter() - began) / len(places)
        fits |= {place: (head, seconds) for place, head in zip(places, heads, strict=True)}
    for place, candidate in enumerate(candidates):
        head, seconds = fits[place]
        yield candidate, head, {"seconds": seconds, "converged": True}


def _stopping(data: _Data) -> dict[str, Any]:
    """Rows to stop early on: those of classes that can be learnt."""
    known = np.isin(data.held_labels, data.labels)
    return {"validation": (data.held_rows[known], data.held_labels[known])} if known.any() else {}


@contextmanager
def _convergence() -> Iterator[Callable[[], bool]]:
    """Whether nothing warned of an unfinished optimisation: a fact of the trial, not a message per candidate."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        yield lambda: not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    for warning in caught:
        if not issubclass(warning.category, ConvergenceWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def _judge(kind: HeadKind, estimator: Any, data: _Data) -> tuple[NDArray[np.float64], dict[str, float]]:
    """Logits, accuracy and log loss on validation rows; scores that are no probabilities get their temperature first."""
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
    """Fitted to the validation rows whose class the estimator knows."""
    known = np.isin(y, estimator.classes_)
    columns = np.searchsorted(estimator.classes_, y[known])
    return fit_temperature(found[np.ix_(known, estimator.classes_)], columns)


def _scores(proba: NDArray[np.float64], y: NDArray[np.int64]) -> dict[str, float]:
    own = proba[np.arange(len(proba)), y]
    accuracy = float((proba.argmax(axis=1) == y).mean())
    return {"accuracy": accuracy, "log_loss": float(-np.log(np.clip(own, _CLIP, 1)).mean())}


def calibrate(
    estimator: Any, found: NDArray[np.float64], y: NDArray[np.int64]
) -> tuple[float, dict[str, float], Verdicts]:
    """Fit a head's temperature to validation rows.

    Args:
        estimator: The head; its ``classes_`` are indices of classes.
        found: (n, k) its logits of these rows, -inf for classes that it doesn't know.
        y: (n,) indices of their classes.

    Returns:
        The temperature, the scores of `FittedHead.validation`, and what the head says of each row.
    """
    if not len(y):
        return 1.0, {}, Verdicts.of(found)
    temperature = _temperature(estimator, found, y)
    before, after = softened(found, 1.0), softened(found, temperature)
    scores = {
        **_scores(after, y),
        "rms_calibration_error": reliability(y, after).rms_calibration_error.value,
        "uncalibrated_log_loss": _scores(before, y)["log_loss"],
        "uncalibrated_rms_calibration_error": reliability(y, before).rms_calibration_error.value,
    }
    return temperature, scores, Verdicts.of(after)


def _refit(task: _Task, best: _Attempt, data: _Data) -> Any:
    """The chosen head on training and validation rows; the linear one starts where the path left it."""
    labels = np.concatenate([data.labels, data.held_labels])
    estimator = task.estimator(best.searched)
    if task.kind.search == "path" and np.isin(data.held_labels, best.estimator.classes_).all():
        start = {"coef_init": best.estimator.coef_, "intercept_init": best.estimator.intercept_}
        return estimator.fit(data.both, labels, **start)
    return estimator.fit(data.both, labels)


def _curve(search: _Search) -> Curve | None:
    """The learning curve of a head that has one, else the scores along the one number that was searched."""
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
