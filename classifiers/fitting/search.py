"""Resumable hyper-parameter search: grid, random, successive halving, or optuna."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import NDArray

from frostline.classifiers.errors import HeadError
from frostline.classifiers.fitting.fit import score_candidates
from frostline.classifiers.fitting.inputs import DEFAULTS, FitOptions, LabelledRows
from frostline.classifiers.fitting.journal import Journal, digest_of, in_parallel, journal_path
from frostline.classifiers.heads.catalog import find_head
from frostline.classifiers.heads.kinds import HeadKind

Method = Literal["grid", "random", "halving", "optuna"]
METHODS: tuple[Method, ...] = ("grid", "random", "halving", "optuna")

Params = Mapping[str, Any]
Fold = tuple[NDArray[np.int64], NDArray[np.int64]]

_DEFAULT_TRIALS = 30
_FACTOR = 3  # reduction of candidates, and increase of rows, per rung of halving
_TOGETHER = 32  # largest number of candidates trained together, or as one path; an interruption loses as many
_LEAST_ROWS = 10  # smallest number of rows per class in the first rung


@dataclass(frozen=True)
class SearchPlan:
    """Method and budget of a search.

    Attributes:
        method: ``grid``: every combination of the grid of the head. ``random``: samples from the range of the
            grid, log-uniform for numbers. ``halving``: random candidates are scored with few training rows, the
            best third with three times as many, and so on (Jamieson & Talwalkar 2016). ``optuna``: sequential
            proposals of a tree-structured Parzen estimator (Bergstra et al. 2011).
        trials: Number of candidates; None for the whole grid, or 30 with other methods.
        jobs: Number of processes; None for the setting of joblib's `parallel_config`, which defaults to 1. optuna
            uses one process.

    Raises:
        HeadError: The method is unknown, or the number of trials is below 1.
    """

    method: Method = "grid"
    trials: int | None = None
    jobs: int | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise HeadError(f"search: got {self.method!r}, expected one of {', '.join(METHODS)}")
        if self.trials is not None and self.trials < 1:
            raise HeadError(f"trials: got {self.trials}, expected at least 1")


@dataclass(frozen=True)
class SearchResult:
    """Result of a search.

    Attributes:
        params: Searched parameters of the best trial.
        trials: Parameters of each trial, ``accuracy`` and ``log_loss`` (means over folds), the used ``share`` of
            the training rows, and ``seconds``.
        resumed: Number of trials that were read from the journal.
        journal: File of finished trials; None without a journal.
    """

    params: Params
    trials: tuple[Mapping[str, Any], ...]
    resumed: int
    journal: Path | None = None


def search_head(
    name: str,
    rows: LabelledRows,
    plan: SearchPlan,
    options: FitOptions = DEFAULTS,
    *,
    folds: Sequence[Fold] | None = None,
    key: str = "",
    journal: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> SearchResult:
    """Score candidates on folds, and choose the one with the highest mean accuracy; ties take the lowest log loss.

    Only rows in a fold are read. The trials do not depend on the number of processes.

    Args:
        name: Kind of head; see `frostline.classifiers.heads.catalog.find_head`.
        rows: Training rows and validation rows.
        plan: Method and budget of the search.
        options: Fixed parameters, seed of the search and of the heads, device, and memory of all processes
            together.
        folds: Pairs of rows to fit and rows to score; by default the training and validation rows of `rows`.
        key: Identifier of X, for the journal.
        journal: File stem for finished trials, from which an interrupted search resumes. The name of the file
            contains a digest of everything that a trial depends on. The caller deletes ``SearchResult.journal`` when it
            is done.
        progress: Called with the number of trials just finished.

    Returns:
        The best parameters, and all trials.

    Raises:
        HeadError: The head or a parameter is unknown, nothing is left to search, the grid is larger than the
            number of trials, or optuna is requested and not installed.
        SplitError: The folds cannot be used.
    """
    kind = find_head(name, options.trusted)
    options = options.checked(kind)
    fixed = options.params
    space = {
        each: tuple(values)
        for each, values in kind.grid(fixed).items()
        if each not in fixed and len(values) > 1
    }
    if not space:
        raise HeadError(f"head {name!r}: nothing to search; free a parameter, or don't search")
    if options.memory is not None:
        options = replace(options, memory=options.memory // effective_n_jobs(plan.jobs))
    folds = [(rows.train, rows.val)] if folds is None else folds
    task = _Task(kind, rows, tuple(folds), options)
    file = journal_path(journal, task.digest(key))
    with Journal(file) as log:
        run = _Runner(task, log, plan.jobs, progress or (lambda _done: None))
        trials = _STRATEGIES[plan.method](run, space, plan, min(len(fit) for fit, _ in folds))
    whole = [trial for trial in trials if trial["share"] == 1]
    best = max(whole, key=lambda trial: (trial["accuracy"], -trial["log_loss"]))
    return SearchResult({each: best[each] for each in space}, tuple(trials), log.resumed, file)


@dataclass(frozen=True)
class _Task:
    kind: HeadKind
    rows: LabelledRows
    folds: tuple[Fold, ...]
    options: FitOptions

    def digest(self, key: str) -> str:
        """Return a digest of everything that a trial depends on."""
        document = {
            "key": key,
            "head": self.kind.name,
            "fixed": self.options.params,
            "shape": list(self.rows.X.shape),
            "classes": self.rows.classes,
            "seed": self.options.seed,
            "device": self.options.device,
        }
        parts = (part for fold in self.folds for part in fold)
        return digest_of(document, (column for part in parts for column in (part, self.rows.y[part])))


def _score(task: _Task, candidates: Sequence[Params], share: float) -> list[dict[str, Any]]:
    """Return the trials of one candidate, or of candidates trained together or as one path: mean scores over the folds."""
    folds = [
        score_candidates(
            task.kind.name,
            task.rows.divided(_first_of_each_class(fit, task.rows.y, share, task.options.seed), held),
            candidates,
            task.options,
        )
        for fit, held in task.folds
    ]
    trials = []
    for candidate, scores in zip(candidates, zip(*folds, strict=True), strict=True):
        means = {name: float(np.mean([each[name] for each in scores])) for name in ("accuracy", "log_loss")}
        seconds = sum(each["seconds"] for each in scores)
        trials.append({**candidate, **means, "share": share, "seconds": seconds})
    return trials


def _first_of_each_class(
    rows: NDArray[np.int64], y: NDArray[np.int64], share: float, seed: int
) -> NDArray[np.int64]:
    """Return a share of the rows of each class, at least one row. Larger shares contain smaller ones."""
    if share == 1:
        return rows
    shuffled = np.random.default_rng(seed).permutation(rows)
    parts = [shuffled[y[shuffled] == label] for label in np.unique(y[rows])]
    return np.sort(np.concatenate([part[: max(1, round(share * len(part)))] for part in parts]))


@dataclass(frozen=True)
class _Runner:
    """Parallel scoring of candidates that are not in the journal."""

    task: _Task
    journal: Journal
    jobs: int | None
    progress: Callable[[int], None]

    def score(self, candidates: Sequence[Params], share: float = 1.0) -> list[dict[str, Any]]:
        """Return one trial per candidate, in order."""
        names = [json.dumps([candidate, share], sort_keys=True) for candidate in candidates]

        def run(todo: list[int]) -> Iterator[tuple[int, dict[str, Any]]]:
            parts = self._parts(candidates, todo)
            calls = ((self.task, [candidates[index] for index in part], share) for part in parts)
            missing = set(todo)
            for part, trials in zip(parts, in_parallel(_score, calls, self.jobs), strict=True):
                yield from (each for each in zip(part, trials, strict=True) if each[0] in missing)

        return self.journal.complete(names, run, self.progress)

    def _parts(self, candidates: Sequence[Params], todo: Sequence[int]) -> list[list[int]]:
        """Return groups of candidate indices, one per call: candidates that train together, spread over the processes."""
        if self.task.kind.search == "path":
            return _stretches(candidates, todo)
        if not self.task.kind.together:
            return [[index] for index in todo]
        groups: dict[str, list[int]] = {}
        for index in todo:
            common = self.task.kind.architecture({**self.task.options.params, **candidates[index]})
            groups.setdefault(common, []).append(index)
        most = min(_TOGETHER, -(-len(todo) // effective_n_jobs(self.jobs)))
        return [
            group[start : start + most] for group in groups.values() for start in range(0, len(group), most)
        ]


def _stretches(candidates: Sequence[Params], todo: Sequence[int]) -> list[list[int]]:
    """Return the stretches of one path, strongest penalty first, that contain a missing candidate.

    A solution depends, within its tolerance, on the previous ones. Stretches are therefore determined by the
    candidates only and solved as a whole, so that results depend neither on the number of processes nor on
    interruptions.
    """
    order = sorted(range(len(candidates)), key=lambda index: -candidates[index]["l2"])
    stretches = np.array_split(order, -(-len(order) // _TOGETHER))
    return [stretch.tolist() for stretch in stretches if np.isin(stretch, todo).any()]


Space = Mapping[str, tuple[Any, ...]]
_Trials = list[dict[str, Any]]


def _grid(run: _Runner, _space: Space, plan: SearchPlan, rows: int) -> _Trials:
    candidates = run.task.kind.candidates(run.task.options.params, rows)
    if plan.trials is not None and len(candidates) > plan.trials:
        raise HeadError(
            f"trials: got {plan.trials}, but the grid of head {run.task.kind.name!r} has {len(candidates)} points; "
            "allow as many trials, fix a parameter, or use random search"
        )
    return run.score(candidates)


def _random(run: _Runner, space: Space, plan: SearchPlan, rows: int) -> _Trials:
    return run.score(drawn(space, plan.trials or _DEFAULT_TRIALS, run.task.options.seed, rows))


def _halving(run: _Runner, space: Space, plan: SearchPlan, rows: int) -> _Trials:
    count = plan.trials or _DEFAULT_TRIALS
    shares = _shares(count, rows, len(run.task.rows.classes))
    candidates = drawn(space, count, run.task.options.seed, int(rows * shares[0]))
    trials: _Trials = []
    for share in shares:
        rung = run.score(candidates, share)
        trials += rung
        order = sorted(range(len(rung)), key=lambda i: (-rung[i]["accuracy"], rung[i]["log_loss"], i))
        candidates = [candidates[i] for i in order[: max(1, len(order) // _FACTOR)]]
    return trials


def _shares(candidates: int, rows: int, classes: int) -> list[float]:
    """Return the shares of the training rows per rung, up to 1, for as many rungs as candidates and rows allow."""
    rungs = 1
    while candidates >= _FACTOR**rungs and rows >= _LEAST_ROWS * classes * _FACTOR**rungs:
        rungs += 1
    return [_FACTOR ** -float(rung) for rung in reversed(range(rungs))]


def _optuna(run: _Runner, space: Space, plan: SearchPlan, rows: int) -> _Trials:
    try:
        import optuna
    except ImportError as error:
        raise HeadError("optuna search needs optuna: pip install 'frostline[optuna]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=run.task.options.seed)
    )
    trials: _Trials = []
    for _ in range(plan.trials or _DEFAULT_TRIALS):
        trial = study.ask()
        candidate = {name: _suggest(trial, name, values, rows) for name, values in space.items()}
        trials += run.score([candidate])
        study.tell(trial, trials[-1]["accuracy"])
    return trials


def _suggest(trial: Any, name: str, values: tuple[Any, ...], rows: int) -> Any:
    low, high, kind = _range(name, values, rows)
    if kind == "int":
        return trial.suggest_int(name, int(low), int(high), log=True)
    if kind == "float":
        return trial.suggest_float(name, low, high, log=True)
    return trial.suggest_categorical(name, values)


_STRATEGIES: Mapping[Method, Callable[[_Runner, Space, SearchPlan, int], _Trials]] = {
    "grid": _grid,
    "random": _random,
    "halving": _halving,
    "optuna": _optuna,
}


def _range(
    name: str, values: tuple[Any, ...], rows: int
) -> tuple[float, float, Literal["int", "float", "choice"]]:
    """Return the ends of the range of a grid, and the type of the parameter."""
    if not all(
        isinstance(value, int | float) and not isinstance(value, bool) and value > 0 for value in values
    ):
        return 0, 0, "choice"
    high = min(max(values), rows) if name == "n_neighbors" else max(values)
    return min(values), high, "int" if all(isinstance(value, int) for value in values) else "float"


def drawn(space: Space, count: int, seed: int, rows: int) -> list[dict[str, Any]]:
    """Draw up to `count` different candidates. Numbers are log-uniform in the range of their grid.

    Args:
        space: Grid of each parameter by name.
        count: Largest number of candidates.
        seed: Random seed.
        rows: Number of training rows, the upper limit of ``n_neighbors``.
    """
    rng = np.random.default_rng(seed)
    return list(
        _distinct(lambda: {name: _draw(name, values, rows, rng) for name, values in space.items()}, count)
    )


def _draw(name: str, values: tuple[Any, ...], rows: int, rng: np.random.Generator) -> Any:
    low, high, kind = _range(name, values, rows)
    if kind == "choice":
        return values[int(rng.integers(len(values)))]
    value = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    return round(value) if kind == "int" else float(f"{value:.4g}")


def _distinct(draw: Callable[[], dict[str, Any]], count: int) -> Iterator[dict[str, Any]]:
    """Yield up to `count` different candidates from at most 20 * `count` draws."""
    seen: set[str] = set()
    for _ in range(20 * count):
        candidate = draw()
        name = json.dumps(candidate, sort_keys=True)
        if name not in seen:
            seen.add(name)
            yield candidate
        if len(seen) == count:
            return
