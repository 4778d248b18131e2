"""The train-head stage: a classifier on cached features, chosen on validation, written as a run."""

import dataclasses
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifiers.folds import assign_folds
from classifiers.persistence import foreign_types, save_head
from classifiers.search import Found, SearchPlan, search_head
from classifiers.selection import FittedHead, fit_head
from features.cache import FeatureCache
from pipeline.checking import guard_splits
from pipeline.errors import RunError
from pipeline.plots import plot_curve, plot_search
from pipeline.reporting import SILENT, Reporter
from pipeline.runs import library_versions, new_run_path, now, save_record, save_split, write_run
from pipeline.tables import write_table
from pipeline.training_rows import DEFAULT_FRACTIONS, choose_layer, split_rows

__all__ = ["TrainResult", "train_head"]


@dataclass(frozen=True)
class TrainResult:
    """What one training gave.

    Attributes:
        run: The run directory.
        head: Kind of head.
        params: Its parameters, the chosen ones included.
        layer: Layer of the cache that it reads.
        counts: Labelled, readable rows in each split.
        validation: Metrics of the selected head on the validation rows, before any refit; none without such rows.
        trials: Hyper-parameters that were tried, with their validation scores.
        seconds: Wall time of the whole stage.
    """

    run: Path
    head: str
    params: Mapping[str, Any]
    layer: str
    counts: Mapping[str, int]
    validation: Mapping[str, float]
    trials: Sequence[Mapping[str, Any]]
    seconds: float


def train_head(
    cache: str | Path | FeatureCache,
    head: str = "linear",
    *,
    params: Mapping[str, Any] | None = None,
    layer: str | None = None,
    run: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    fractions: tuple[float, float, float] = DEFAULT_FRACTIONS,
    search: SearchPlan | None = None,
    cv: int | None = None,
    report: Reporter = SILENT,
) -> TrainResult:
    """Fit a head on a cache's training rows, choose its hyper-parameters on validation, and write a run.

    Test rows are never read: neither their features nor their labels.

    Args:
        cache: The cache or its path.
        head: Kind of head; see `classifiers.heads.HEADS`.
        params: Hyper-parameters to fix; the others are chosen on the validation rows.
        layer: Layer to read; needed where the cache holds several.
        run: Directory to write; by default a fresh one under ``runs/``.
        seed: Seed of everything random in the head.
        device: Where torch heads train: ``auto``, ``cpu`` or ``cuda``.
        fractions: Shares of train, val and test for data that comes without splits.
        search: How to search for hyper-parameters; by default as the head itself does. Finished trials are kept in a
            journal beside the run until it is written: a search that was killed goes on from there.
        cv: Folds of train and val rows to judge candidates on, copies and groups kept together; by default the
            validation rows judge. Without `search` it means a search of the head's grid.
        report: Where progress goes.

    Raises:
        ClassifiersError: The head, a parameter or the split is not usable.
        FeaturesError: The cache is not usable.
        LeakError: The same image bytes, or one group, are in more than one split.
        RunError: The run directory exists, or the layer doesn't.
    """
    started = time.perf_counter()
    if not isinstance(cache, FeatureCache):
        cache = FeatureCache.open(cache)
    chosen = choose_layer(cache, layer)
    path = Path(run) if run is not None else new_run_path(cache.path, head)
    if path.exists():
        with write_run(path):  # says that it exists, before any work
            pass
    split, split_report = split_rows(cache, fractions)
    problems = (*split_report.problems, *guard_splits(cache, split))
    for problem in problems:
        report.warn(problem)
    train, val = np.flatnonzero(split == 1), np.flatnonzero(split == 2)

    found = None
    if search is not None or cv is not None:
        rows = _Rows(cache, chosen.key, train, val, cv)
        found = _search(
            head,
            rows,
            search or SearchPlan(),
            run=path,
            params=params or {},
            seed=seed,
            device=device,
            report=report,
        )
    with report.task(f"Training {head}", None) as advance:
        fitted = fit_head(
            head,
            cache.features(chosen.key),
            cache.labels,
            train,
            val,
            classes=cache.classes,
            params={**(params or {}), **(found.params if found else {})},
            seed=seed,
            device=device,
            progress=advance,
        )
    if found:
        fitted = dataclasses.replace(fitted, trials=found.trials)
    foreign = foreign_types(fitted.estimator)
    if foreign:
        report.note(
            f"The head holds types that skops doesn't take unasked: {', '.join(foreign)}. Whoever uses the run has to"
            f" allow them: {' '.join(f'--trust {name}' for name in foreign)}"
        )
    result = TrainResult(
        run=path,
        head=head,
        params=fitted.params,
        layer=chosen.key,
        counts={"train": len(train), "val": len(val), "test": int((split == 3).sum())},
        validation=fitted.validation,
        trials=fitted.trials,
        seconds=time.perf_counter() - started,
    )
    with write_run(path) as folder:
        save_head(fitted, folder)
        read = np.concatenate([train, val])
        save_split(folder, cache.content[read], split[read])
        if fitted.curve is not None:
            fitted.curve.to_csv(folder / "curve.csv")
            plot_curve(fitted.curve, folder / "curve.png", title=f"{head} on {cache.path.name}")
        if found:
            write_table(found.trials, folder / "search.csv")
            plot_search(found, folder / "search.png", title=f"search for {head} on {cache.path.name}")
        save_record(folder, _record(result, cache, fitted, problems, seed=seed, fractions=fractions))
    if found and found.journal:
        found.journal.unlink()
    return result


@dataclass(frozen=True)
class _Rows:
    """What a search may read."""

    cache: FeatureCache
    layer: str
    train: NDArray[np.int64]
    val: NDArray[np.int64]
    cv: int | None

    def folds(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Rows to fit and rows to judge."""
        if self.cv is None:
            if not len(self.val):
                raise RunError(f"{self.cache.path} has no validation rows to search with; give --cv K.")
            return [(self.train, self.val)]
        rows = np.union1d(self.train, self.val)
        fold = assign_folds(self.cache.content[rows], self.cache.groups[rows], self.cv)
        return [(rows[fold != number], rows[fold == number]) for number in range(self.cv)]

    def key(self) -> str:
        """Digest of the features that the search reads."""
        content = self.cache.content[np.union1d(self.train, self.val)].tobytes()
        return f"{self.cache.key} {self.layer} {hashlib.sha256(content).hexdigest()}"


def _search(
    head: str,
    rows: _Rows,
    plan: SearchPlan,
    *,
    run: Path,
    params: Mapping[str, Any],
    seed: int,
    device: str,
    report: Reporter,
) -> Found:
    with report.task(f"Searching {head}", None) as advance:
        found = search_head(
            head,
            rows.cache.features(rows.layer),
            rows.cache.labels,
            rows.folds(),
            plan,
            classes=rows.cache.classes,
            params=params,
            seed=seed,
            device=device,
            key=rows.key(),
            journal=run.with_name(f".{run.name}.search"),
            progress=advance,
        )
    if found.resumed:
        report.note(
            f"{found.resumed} of {len(found.trials)} trials were there from an earlier, interrupted search."
        )
    return found


def _record(
    result: TrainResult,
    cache: FeatureCache,
    fitted: FittedHead,
    problems: Sequence[str],
    *,
    seed: int,
    fractions: tuple[float, float, float],
) -> dict[str, Any]:
    return {
        "created": now(),
        "cache": {
            "path": str(cache.path.resolve()),
            "key": cache.key,
            "spec": dataclasses.asdict(cache.spec),
            "source": cache.source,
            "weights": cache.weights or None,
            "rows": cache.rows,
        },
        "layer": result.layer,
        "classes": list(cache.classes),
        "split": {
            "fractions": list(fractions),
            "counts": dict(result.counts),
            "problems": list(problems),
        },
        "head": {
            "kind": result.head,
            "params": dict(result.params),
            "types": list(foreign_types(fitted.estimator)),
        },
        "seed": seed,
        "trials": [dict(trial) for trial in result.trials],
        "metrics": {"validation": dict(result.validation)},
        "seconds": {"fit": fitted.seconds, "total": result.seconds},
        "versions": library_versions(),
    }
