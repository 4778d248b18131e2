"""The train-head stage: a classifier on cached features, chosen on validation, written as a run."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifiers.persistence import foreign_types, save_head
from classifiers.selection import FittedHead, fit_head
from classifiers.splits import SplitReport, assign_splits, check_splits
from features.cache import FeatureCache
from features.spec import Layer
from pipeline.errors import RunError
from pipeline.plots import plot_curve
from pipeline.reporting import SILENT, Reporter
from pipeline.runs import library_versions, new_run_path, now, save_record, save_split, write_run

__all__ = ["DEFAULT_FRACTIONS", "TrainResult", "split_rows", "train_head"]

DEFAULT_FRACTIONS = (0.6, 0.2, 0.2)


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


def choose_layer(cache: FeatureCache, layer: str | None) -> Layer:
    """Find a layer of the cache by its key or name; without a name, the only one.

    Raises:
        RunError: There is no such layer, or there are several to choose from.
    """
    layers = cache.layers
    if layer is None:
        if len(layers) == 1:
            return layers[0]
        problem = "holds several layers; choose one with --layer"
    else:
        found = [each for each in layers if layer in {each.key, each.name}]
        if len(found) == 1:
            return found[0]
        problem = f"holds no layer {layer!r}" if not found else f"holds {layer!r} under several pools"
    raise RunError(f"{cache.path} {problem}: {', '.join(each.key for each in layers)}.")


def split_rows(
    cache: FeatureCache, fractions: tuple[float, float, float] = DEFAULT_FRACTIONS
) -> tuple[NDArray[np.uint8], SplitReport]:
    """Divide a cache's labelled, readable rows into train (1), val (2) and test (3); the rest is 0.

    The same cache and fractions always give the same split; see `classifiers.splits.assign_splits`.

    Raises:
        SplitError: No labelled row, or a class that has none to train on.
    """
    usable = cache.ok & (cache.labels >= 0)
    split = assign_splits(cache.split, cache.content, cache.groups, fractions=fractions, usable=usable)
    declared = bool((cache.split[usable] > 0).any())
    return split, check_splits(split, cache.labels, cache.classes, fractions=None if declared else fractions)


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
        report: Where progress goes.

    Raises:
        ClassifiersError: The head, a parameter or the split is not usable.
        FeaturesError: The cache is not usable.
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
    for problem in split_report.problems:
        report.warn(problem)
    train, val = np.flatnonzero(split == 1), np.flatnonzero(split == 2)

    with report.task(f"Training {head}", None) as advance:
        fitted = fit_head(
            head,
            cache.features(chosen.key),
            cache.labels,
            train,
            val,
            classes=cache.classes,
            params=params or {},
            seed=seed,
            device=device,
            progress=advance,
        )
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
        save_record(folder, _record(result, cache, fitted, split_report, seed=seed, fractions=fractions))
    return result


def _record(
    result: TrainResult,
    cache: FeatureCache,
    fitted: FittedHead,
    split_report: SplitReport,
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
            "problems": list(split_report.problems),
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
