"""Search for hyper-parameters: by grid, at random, by successive halving, or with optuna; resumable."""

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
from frostline.classifiers.fitting.resumable import Journal, digest_of, in_parallel, journal_path
from frostline.classifiers.heads.catalog import find_head
from frostline.classifiers.heads.kinds import HeadKind

Method = Literal["grid", "random", "halving", "optuna"]
METHODS: tuple[Method, ...] = ("grid", "random", "halving", "optuna")

Params = Mapping[str, Any]
Fold = tuple[NDArray[np.int64], NDArray[np.int64]]

_DEFAULT_TRIALS = 30
_FACTOR = 3  # of candidates kept, and of rows given, from rung to rung of halving
_TOGETHER = 32  # candidates at most that are trained together, or as one path: what a kill loses
_LEAST_ROWS = 10  # per class, in the first rung


@dataclass(frozen=True)
class SearchPlan:
    """How to search.

    Attributes:
        method: ``grid``: every combination of the head's values. ``random``: values drawn, numbers log-uniformly,
            from the range of the grid. ``halving``: as many drawn, judged with few training rows, the better third
            with three times as many, and so on (Jamieson & Talwalkar 2016). ``optuna``: proposed by a tree-structured
            Parzen estimator (Bergstra et al. 2011), one after the other.
        trials: How many candidates; None for all of a grid, else 30.
        jobs: Processes; None for what joblib's `parallel_config` says, 1 without any. optuna uses one.
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
class Found:
    """What a search gave.

    Attributes:
        params: The searched parameters of the best trial.
        trials: Each trial: its parameters, ``accuracy`` and ``log_loss`` (means over folds), ``share`` of the training
            rows it had, and ``seconds``.
        resumed: Trials that the journal already had.
        journal: The file of finished trials; None where none was asked for.
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
) -> Found:
    """Judge candidates on folds and choose the one of highest mean accuracy, of equal ones that of least log loss.

    Only rows that are in a fold are read. The same arguments give the same trials, whatever the number of processes.

    Args:
        name: Kind of head; see `classifiers.heads.catalog.find_head`.
        rows: Rows to fit, and rows to judge.
        plan: How to search.
        options: Parameters to fix, seed of the search and of the heads, device, and memory for all processes together.
        folds: Pairs of rows to fit and rows to judge; by default one, those of `rows`.
        key: What identifies X, for the journal.
        journal: File stem for finished trials; a search that was killed goes on from there. The file's name holds a
            digest of everything that a trial depends on. The caller deletes ``Found.journal`` once it needs it no more.
        progress: Called with 1 after each trial.

    Raises:
        HeadError: No such head or parameter, nothing to search, or a grid larger than the number of trials.
        SplitError: Folds that can't be used.
        ImportError: optuna is asked for and isn't installed.
    """
    kind = find_head(name)
    options = options.checked(kind)
    fixed = options.params
    space = {
        each: tuple(values)
        for each, values in kind.grid(fixed).items()
        if each not in fixed and len(values) > 1
    }
    if not space:
        raise HeadError(f"head {name!r}: nothing to search; free a parameter, or leave the search out")
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
    return Found({each: best[each] for each in space}, tuple(trials), log.resumed, file)


@dataclass(frozen=True)
class _Task:
    kind: HeadKind
    rows: LabelledRows
    folds: tuple[Fold, ...]
    options: FitOptions

    def digest(self, key: str) -> str:
        """Of all that a trial depends on."""
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


def _judge(task: _Task, candidates: Sequence[Params], share: float) -> list[dict[str, Any]]:
    """Trials of candidates that are trained together or as one path, or of one: the means of their scores on the folds."""
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
    """A share of each class's rows, at least one; a larger share holds the smaller one's."""
    if share == 1:
        return rows
    shuffled = np.random.default_rng(seed).permutation(rows)
    parts = [shuffled[y[shuffled] == label] for label in np.unique(y[rows])]
    return np.sort(np.concatenate([part[: max(1, round(share * len(part)))] for part in parts]))


@dataclass(frozen=True)
class _Runner:
    """Judges candidates, in parallel, unless the journal knows them."""

    task: _Task
    journal: Journal
    jobs: int | None
    progress: Callable[[int], None]

    def judge(self, candidates: Sequence[Params], share: float = 1.0) -> list[dict[str, Any]]:
        """One trial per candidate, in order."""
        names = [json.dumps([candidate, share], sort_keys=True) for candidate in candidates]

        def run(todo: list[int]) -> Iterator[tuple[int, dict[str, Any]]]:
            parts = self._parts(candidates, todo)
            calls = ((self.task, [candidates[place] for place in part], share) for part in parts)
            missing = set(todo)
            for part, trials in zip(parts, in_parallel(_judge, calls, self.jobs), strict=True):
                yield from (each for each in zip(part, trials, strict=True) if each[0] in missing)

        return self.journal.complete(names, run, self.progress)

    def _parts(self, candidates: Sequence[Params], todo: Sequence[int]) -> list[list[int]]:
        """Places of candidates that are judged by one call: as many as train together, with some for each process."""
        if self.task.kind.search == "path":
            return _stretches(candidates, todo)
        if not self.task.kind.together:
            return [[place] for place in todo]
        groups: dict[str, list[int]] = {}
        for place in todo:
            common = self.task.kind.architecture({**self.task.options.params, **candidates[place]})
            groups.setdefault(common, []).append(place)
        most = min(_TOGETHER, -(-len(todo) // effective_n_jobs(self.jobs)))
        return [
            group[start : start + most] for group in groups.values() for start in range(0, len(group), most)
        ]


def _stretches(candidates: Sequence[Params], todo: Sequence[int]) -> list[list[int]]:
    """Stretches of one path, strongest first, that hold a candidate to do.

    A solution depends, within its tolerance, on those before it: so that the number of processes and a kill change nothing,
    stretches depend on the candidates alone, and are solved whole.
    """
    order = sorted(range(len(candidates)), key=lambda place: -candidates[place]["l2"])
    stretches = np.array_split(order, -(-len(order) // _TOGETHER))
    return [stretch.tolist() for stretch in stretches if np.isin(stretch, todo).any()]


Space = Mapping[str, tuple[Any, ...]]
_Trials = list[dict[str, Any]]


def _grid(run: _Runner, _space: Space, plan: SearchPlan, rows: int) -> _Trials:
    candidates = run.task.kind.candidates(run.task.options.params, rows)
    if plan.trials is not None and len(candidates) > plan.trials:
        raise HeadError(
            f"trials: got {plan.trials}, but the grid of head {run.task.kind.name!r} has {len(candidates)} points; "
            "allow as many, fix a parameter, or search at random"
        )
    return run.judge(candidates)


def _random(run: _Runner, space: Space, plan: SearchPlan, rows: int) -> _Trials:
    return run.judge(drawn(space, plan.trials or _DEFAULT_TRIALS, run.task.options.seed, rows))


def _halving(run: _Runner, space: Space, plan: SearchPlan, rows: int) -> _Trials:
    count = plan.trials or _DEFAULT_TRIALS
    shares = _shares(count, rows, len(run.task.rows.classes))
    candidates = drawn(space, count, run.task.options.seed, int(rows * shares[0]))
    trials: _Trials = []
    for share in shares:
        rung = run.judge(candidates, share)
        trials += rung
        order = sorted(range(len(rung)), key=lambda i: (-rung[i]["accuracy"], rung[i]["log_loss"], i))
        candidates = [candidates[i] for i in order[: max(1, len(order) // _FACTOR)]]
    return trials


def _shares(candidates: int, rows: int, classes: int) -> list[float]:
    """Shares of the training rows, rung by rung, up to 1: as many rungs as candidates and rows allow."""
    rungs = 1
    while candidates >= _FACTOR**rungs and rows >= _LEAST_ROWS * classes * _FACTOR**rungs:
        rungs += 1
    return [_FACTOR ** -float(rung) for rung in reversed(range(rungs))]


def _optuna(run: _Runner, space: Space, plan: SearchPlan, rows: int) -> _Trials:
    try:
        import optuna
    except ImportError as error:
        raise HeadError("search by optuna needs optuna: pip install 'frostline[optuna]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=run.task.options.seed)
    )
    trials: _Trials = []
    for _ in range(plan.trials or _DEFAULT_TRIALS):
        asked = study.ask()
        candidate = {name: _suggest(asked, name, values, rows) for name, values in space.items()}
        trials += run.judge([candidate])
        study.tell(asked, trials[-1]["accuracy"])
    return trials


def _suggest(asked: Any, name: str, values: tuple[Any, ...], rows: int) -> Any:
    low, high, kind = _range(name, values, rows)
    if kind == "int":
        return asked.suggest_int(name, int(low), int(high), log=True)
    if kind == "float":
        return asked.suggest_float(name, low, high, log=True)
    return asked.suggest_categorical(name, values)


_STRATEGIES: Mapping[Method, Callable[[_Runner, Space, SearchPlan, int], _Trials]] = {
    "grid": _grid,
    "random": _random,
    "halving": _halving,
    "optuna": _optuna,
}


def _range(
    name: str, values: tuple[Any, ...], rows: int
) -> tuple[float, float, Literal["int", "float", "choice"]]:
    """Ends of what a parameter's grid spans, and how to draw between them."""
    if not all(
        isinstance(value, int | float) and not isinstance(value, bool) and value > 0 for value in values
    ):
        return 0, 0, "choice"
    high = min(max(values), rows) if name == "n_neighbors" else max(values)
    return min(values), high, "int" if all(isinstance(value, int) for value in values) else "float"


def drawn(space: Space, count: int, seed: int, rows: int) -> list[dict[str, Any]]:
    """Up to so many different candidates, numbers drawn log-uniformly from what their values span.

    Args:
        space: What to draw from, by name.
        count: How many.
        seed: The same one draws the same.
        rows: To fit, which ``n_neighbors`` can't exceed.
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
    """Up to so many different candidates; fewer where there are no more."""
    seen: set[str] = set()
    for _ in range(20 * count):
        candidate = draw()
        name = json.dumps(candidate, sort_keys=True)
        if name not in seen:
            seen.add(name)
            yield candidate
        if len(seen) == count:
            return
