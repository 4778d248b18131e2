"""The train-head stage: a classifier on cached features, chosen on validation, written as a run."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frostline.classifiers.fitting.fit import fit_head
from frostline.classifiers.fitting.fitted import FittedHead
from frostline.classifiers.fitting.inputs import FitOptions, LabelledRows
from frostline.classifiers.fitting.projection import ProjectedRows, ProjectionPlan, fit_projection
from frostline.classifiers.fitting.search import Found, SearchPlan, search_head
from frostline.classifiers.saving.head_files import foreign_types, save_head
from frostline.pipeline.drawing.plots import plot_curve, plot_search
from frostline.pipeline.drawing.tables import write_table
from frostline.pipeline.errors import RunError
from frostline.pipeline.hosts.memory import half_of_memory
from frostline.pipeline.hosts.versions import library_versions, now
from frostline.pipeline.inputs.joined_caches import AnyCache, open_caches
from frostline.pipeline.inputs.labelled_images import DEFAULT_FRACTIONS
from frostline.pipeline.inputs.layers import layer_choices, layer_features
from frostline.pipeline.inputs.learning_rows import LearningRows
from frostline.pipeline.progress import SILENT, Reporter
from frostline.pipeline.runs.caches import describe_caches
from frostline.pipeline.runs.directory import check_new, new_run_path, write_run
from frostline.pipeline.runs.head import describe_head, describe_metrics
from frostline.pipeline.runs.predictions import save_validation
from frostline.pipeline.runs.record import Asked, Counts, Durations, HeadRun, SplitRecord, save_record
from frostline.pipeline.runs.split import save_split


@dataclass(frozen=True)
class TrainResult:
    """What one training gave.

    Attributes:
        run: The run directory.
        head: Kind of head.
        params: Its parameters, the chosen ones included.
        layer: Layer of the cache that it reads; ``a+b`` for several side by side.
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
    cache: str | Path | AnyCache | Sequence[str | Path],
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
    project: ProjectionPlan | str | None = None,
    memory: int | None = None,
    report: Reporter = SILENT,
) -> TrainResult:
    """Fit a head on a cache's training rows, choose its hyper-parameters on validation, and write a run.

    Test rows are never read: neither their features nor their labels.

    Args:
        cache: The cache or its path; ``a.h5+b.h5``, or several paths, for the features of several backbones side by side,
            of the same images.
        head: Kind of head; see `classifiers.heads.catalog.HEADS`.
        params: Hyper-parameters to fix; the others are chosen on the validation rows.
        layer: Layer to read, needed where the cache holds several; ``a+b`` for two side by side; ``all`` to choose among
            each and all side by side, by the same scores that choose hyper-parameters. Of several caches, each one's layer
            of that name; ``2/layer`` is the second's alone.
        run: Directory to write; by default a fresh one under ``runs/``.
        seed: Seed of everything random in the head.
        device: Where torch heads train: ``auto``, ``cpu`` or ``cuda``.
        fractions: Shares of train, val and test for data that comes without splits.
        search: How to search for hyper-parameters; by default as the head itself does. Finished trials are kept in a
            journal beside the run until it is written: a search that was killed goes on from there.
        cv: Folds of train and val rows to judge candidates on, copies and groups kept together; by default the
            validation rows judge. Without `search` it means a search of the head's grid.
        project: Project the features first, e.g. ``pca:256`` or ``random:256``, fitted on the training rows alone and saved
            with the head; see `classifiers.fitting.projection`.
        memory: Bytes that the features may take; by default half of the machine's memory. ``linear`` reads what takes more
            from the cache in blocks, again and again; other heads refuse it.
        report: Where progress goes.

    Raises:
        ClassifiersError: The head, a parameter or the split is not usable.
        FeaturesError: The cache is not usable.
        LeakError: The same image bytes, or one group, are in more than one split.
        RunError: The run directory exists, or the layer doesn't.
    """
    started = time.perf_counter()
    cache = open_caches(cache)
    projection = ProjectionPlan.parse(project) if isinstance(project, str) else project
    asked = Asked(
        head=head,
        params=dict(params or {}),
        layer=layer,
        project=str(projection) if projection else None,
        search=search,
        cv=cv,
        seed=seed,
        device=device,
        memory=memory,
        fractions=fractions,
    )
    choices = layer_choices(cache, layer)
    path = Path(run) if run is not None else new_run_path(cache.path, head)
    check_new(path)  # before any work
    rows = LearningRows.of(cache, fractions, report)
    if len(choices) > 1 and not len(rows.val) and cv is None:
        raise RunError(
            f"{cache.path} has no validation rows to choose a layer on; name one layer, or pass --cv K."
        )
    allowed = half_of_memory() if memory is None else memory
    options = FitOptions(asked.params, seed, device, allowed)
    job = _Job(asked, options, rows, projection, path, report)
    fits = [job.fit(choice) for choice in choices]
    best = _best(fits)
    _tell_of_types(best.fitted, report)
    result = TrainResult(
        run=path,
        head=head,
        params=best.fitted.params,
        layer=best.layer,
        counts=rows.counts,
        validation=best.fitted.validation,
        trials=best.fitted.trials,
        seconds=time.perf_counter() - started,
    )
    with write_run(path) as folder:
        _write(folder, best, rows, head)
        save_record(folder, _record(result, rows, best.fitted, asked))
    _drop_journals(fits)
    return result


def _tell_of_types(fitted: FittedHead, report: Reporter) -> None:
    """Say what whoever loads the head has to trust."""
    foreign = foreign_types(fitted.estimator)
    if foreign:
        report.note(
            f"The head contains types that skops does not trust by default: {', '.join(foreign)}. To use the run,"
            f" pass {' '.join(f'--trust {name}' for name in foreign)}"
        )


@dataclass(frozen=True)
class _Fit:
    """A head on one choice of layers."""

    layer: str
    fitted: FittedHead
    found: Found | None

    @property
    def accuracy(self) -> float:
        """What layers are compared by: the best trial's where there was a search, else that on validation."""
        if self.found:
            return float(max(trial["accuracy"] for trial in self.found.trials if trial["share"] == 1))
        return self.fitted.validation.get("accuracy", 0.0)


def _best(fits: Sequence[_Fit]) -> _Fit:
    """The first of the most accurate, with the trials of all."""
    best = max(fits, key=lambda fit: fit.accuracy)
    if len(fits) == 1:
        return best
    trials = tuple({"layer": fit.layer, **trial} for fit in fits for trial in fit.fitted.trials)
    return dataclasses.replace(best, fitted=dataclasses.replace(best.fitted, trials=trials))


def _drop_journals(fits: Sequence[_Fit]) -> None:
    for fit in fits:
        if fit.found and fit.found.journal:
            fit.found.journal.unlink()


@dataclass(frozen=True)
class _Job:
    """A head to search for and to fit."""

    asked: Asked
    options: FitOptions
    rows: LearningRows[AnyCache]
    projection: ProjectionPlan | None
    run: Path
    report: Reporter

    @property
    def plan(self) -> SearchPlan | None:
        """How to search; None for the head's own way."""
        return SearchPlan() if self.asked.search is None and self.asked.cv is not None else self.asked.search

    def fit(self, layer: str) -> _Fit:
        """Search, and fit what was found."""
        plain = layer_features(self.rows.images, layer)
        projection = (
            fit_projection(plain, self.rows.train, self.projection, seed=self.options.seed)
            if self.projection
            else None
        )
        rows = self.rows.labelled(ProjectedRows(plain, projection) if projection else plain)
        found = self._search(layer, rows, self.plan) if self.plan else None
        params = {**self.options.params, **(found.params if found else {})}
        with self.report.task(f"Training {self.asked.head} on {layer}", None) as advance:
            options = dataclasses.replace(self.options, params=params)
            fitted = fit_head(self.asked.head, rows, options, progress=advance)
        if projection:
            dim, dtype = plain.shape[1], plain.dtype.name
            fitted = dataclasses.replace(fitted, projection=projection, dim=dim, dtype=dtype)
        if found:
            fitted = dataclasses.replace(fitted, trials=found.trials)
        return _Fit(layer, fitted, found)

    def _search(self, layer: str, rows: LabelledRows, plan: SearchPlan) -> Found:
        cache = self.rows.images
        with self.report.task(f"Searching {self.asked.head} on {layer}", None) as advance:
            found = search_head(
                self.asked.head,
                rows,
                plan,
                self.options,
                folds=self.rows.folds(self.asked.cv),
                key=f"{cache.key} {layer} {self.rows.digest} {self.projection}",
                journal=self.run.with_name(f".{self.run.name}.search"),
                progress=advance,
            )
        if found.resumed:
            self.report.note(
                f"Resumed {found.resumed} of {len(found.trials)} trials of an interrupted search."
            )
        return found


def _write(folder: Path, best: _Fit, rows: LearningRows[AnyCache], head: str) -> None:
    """Write the head, what it was trained on, and the curves and tables of its choice."""
    fitted, cache = best.fitted, rows.images
    save_head(fitted, folder)
    save_split(folder, rows)
    save_validation(folder, rows, fitted)
    if fitted.curve is not None:
        fitted.curve.to_csv(folder / "curve.csv")
        plot_curve(fitted.curve, folder / "curve.png", title=f"{head} on {cache.path.name}")
    if best.found:
        write_table(fitted.trials, folder / "search.csv")
        title = f"search for {head} on {cache.path.name}"
        plot_search(fitted.trials, best.found.params, folder / "search.png", title=title)


def _record(result: TrainResult, rows: LearningRows[AnyCache], fitted: FittedHead, asked: Asked) -> HeadRun:
    cache = rows.images
    return HeadRun(
        created=now(),
        asked=asked,
        caches=describe_caches(cache),
        layer=result.layer,
        classes=cache.classes,
        split=SplitRecord(fractions=asked.fractions, counts=Counts(**rows.counts), problems=rows.problems),
        head=describe_head(fitted, result.head),
        seed=asked.seed,
        trials=tuple(result.trials),
        metrics=describe_metrics(fitted),
        seconds=Durations(fit=fitted.seconds, total=result.seconds),
        versions=library_versions(),
    )
