"""The train-head stage: train a classifier on cached features, select it on validation and write a run."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frostline.classifiers.fitting.columns import ColumnEncoding
from frostline.classifiers.fitting.fit import fit_head
from frostline.classifiers.fitting.fitted_head import FittedHead
from frostline.classifiers.fitting.inputs import FitOptions, LabelledRows
from frostline.classifiers.fitting.projection import ProjectedRows, ProjectionPlan, fit_projection
from frostline.classifiers.fitting.rejection import fit_rejection
from frostline.classifiers.fitting.search import SearchPlan, SearchResult, search_head
from frostline.classifiers.heads.catalog import parse_params
from frostline.classifiers.heads.trust import trust_option
from frostline.classifiers.saving.head_files import save_head
from frostline.classifiers.saving.rejection_file import save_rejection
from frostline.classifiers.saving.skops_files import foreign_types
from frostline.pipeline.drawing.attempts import drawn
from frostline.pipeline.drawing.plots import plot_curve, plot_search
from frostline.pipeline.drawing.tables import write_table
from frostline.pipeline.errors import RunError
from frostline.pipeline.hosts.memory import half_of_memory
from frostline.pipeline.hosts.versions import library_versions, now
from frostline.pipeline.inputs.joined_caches import AnyCache, members, open_caches
from frostline.pipeline.inputs.layers import layer_choices, layer_features
from frostline.pipeline.inputs.learning_rows import LearningRows
from frostline.pipeline.inputs.side_columns import digest_of, fit_columns, with_columns
from frostline.pipeline.options.learning.heads import TrainHeadOptions
from frostline.pipeline.options.stage import stage
from frostline.pipeline.progress import Reporter
from frostline.pipeline.runs.caches import describe_caches
from frostline.pipeline.runs.directory import claim_run, default_run_path, write_run
from frostline.pipeline.runs.head import describe_head, describe_metrics
from frostline.pipeline.runs.predictions import save_validation
from frostline.pipeline.runs.record import Durations, HeadRun, save_record
from frostline.pipeline.runs.run import divide_for_training, tuning_runs
from frostline.pipeline.runs.split import describe_split, save_split


@dataclass(frozen=True)
class TrainResult:
    """Result of a training.

    Attributes:
        run: Run directory.
        head: Kind of head.
        params: Parameters of the head, including the selected ones.
        layer: Key of the layer that the head reads; ``a+b`` for joined layers.
        counts: Number of labelled, readable rows in each split.
        validation: Metrics of the selected head on the validation rows, before any refit; empty without such rows.
        trials: Candidate hyper-parameters with their validation scores.
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


@stage(TrainHeadOptions)
def train_head(cache: str | Path | AnyCache | Sequence[str | Path], options: TrainHeadOptions) -> TrainResult:
    """Fit a head on the training rows of a cache, select its hyper-parameters on validation, and write a run.

    Neither the features nor the labels of test rows are read.

    Args:
        cache: The cache or its path; ``a.h5+b.h5``, or several paths, concatenate the features of several
            backbones for the same images.
        options: Options of the stage.

    Raises:
        ClassifiersError: The head, a parameter or the split is not usable.
        FeaturesError: The cache is not usable.
        LeakError: The same image bytes, or one group, are in more than one split.
        RunError: The run directory exists already, or the layer does not exist.
    """
    started = time.perf_counter()
    cache = open_caches(cache)
    params = parse_params(options.head, options.params or {}, options.trusted)
    options = dataclasses.replace(options, params=params)
    choices = layer_choices(cache, options.layer)
    default = default_run_path(cache.path, options.head)
    with claim_run(options.run, default, options.report) as path:  # before any work
        return _train(cache, choices, path, options, started)


def _train(
    cache: AnyCache, choices: Sequence[str], path: Path, options: TrainHeadOptions, started: float
) -> TrainResult:
    runs = tuning_runs(each.weights for each in members(cache))
    rows = divide_for_training(cache, runs, options.fractions, options.report)
    if len(choices) > 1 and not len(rows.val) and options.cv is None:
        raise RunError(
            f"{cache.path} has no validation rows to choose a layer on; name one layer, or pass --cv K."
        )
    memory = half_of_memory() if options.memory is None else options.memory
    fitting = FitOptions(options.params or {}, options.seed, options.device, memory, options.trusted)
    job = _Job(options, fitting, rows, path, fit_columns(rows, options.with_columns))
    fits = [job.fit(choice) for choice in choices]
    best = _best(fits)
    _note_foreign_types(best.fitted, options.report)
    result = TrainResult(
        run=path,
        head=options.head,
        params=best.fitted.params,
        layer=best.layer,
        counts=rows.counts,
        validation=best.fitted.validation,
        trials=best.fitted.trials,
        seconds=time.perf_counter() - started,
    )
    with write_run(path) as folder:
        _write(folder, best, rows)
        _write_rejection(folder, best.layer, rows, options)
        save_record(folder, _record(result, rows, best.fitted, options))
        _draw(folder, path, best, rows, options)
    _drop_journals(fits)
    return result


def _note_foreign_types(fitted: FittedHead, report: Reporter) -> None:
    """Report the types that have to be trusted to load the head."""
    foreign = foreign_types(fitted.estimator)
    if foreign:
        report.note(
            f"The head contains types that skops does not trust by default: {', '.join(foreign)}. To use the run,"
            f" pass {trust_option(*foreign)}"
        )


@dataclass(frozen=True)
class _Fit:
    """A head fitted on one choice of layers."""

    layer: str
    fitted: FittedHead
    found: SearchResult | None

    @property
    def accuracy(self) -> float:
        """Accuracy that layers are compared by: that of the best trial after a search, else that on validation."""
        if self.found:
            return float(max(trial["accuracy"] for trial in self.found.trials if trial["share"] == 1))
        return self.fitted.validation.get("accuracy", 0.0)


def _best(fits: Sequence[_Fit]) -> _Fit:
    """Return the first of the most accurate fits, with the trials of all fits."""
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
    """Inputs of the search and the fit of a head."""

    options: TrainHeadOptions
    fitting: FitOptions
    rows: LearningRows[AnyCache]
    run: Path
    columns: ColumnEncoding | None

    @property
    def search(self) -> SearchPlan | None:
        """The search; None for the head's own method."""
        options = self.options
        return (
            SearchPlan(options.search or "grid", options.trials, options.jobs) if options.searches else None
        )

    @property
    def projection(self) -> ProjectionPlan | None:
        """The projection of the features; None for none."""
        return ProjectionPlan.parse(self.options.project) if self.options.project else None

    def fit(self, layer: str) -> _Fit:
        """Search the hyper-parameters and fit the head."""
        plain, head = layer_features(self.rows.images, layer), self.options.head
        projection = (
            fit_projection(plain, self.rows.train, self.projection, seed=self.options.seed)
            if self.projection
            else None
        )
        read = ProjectedRows(plain, projection) if projection else plain
        rows = self.rows.labelled(with_columns(read, self.rows.images, self.columns))
        found = self._search(layer, rows, self.search) if self.search else None
        params = {**self.fitting.params, **(found.params if found else {})}
        with self.options.report.task(f"Training {head} on {layer}", None) as advance:
            fitted = fit_head(head, rows, dataclasses.replace(self.fitting, params=params), progress=advance)
        fitted = dataclasses.replace(fitted, dim=plain.shape[1], columns=self.columns)
        if projection:
            dtype = plain.dtype.name
            fitted = dataclasses.replace(fitted, projection=projection, dtype=dtype)
        if found:
            fitted = dataclasses.replace(fitted, trials=found.trials)
        return _Fit(layer, fitted, found)

    def _search(self, layer: str, rows: LabelledRows, plan: SearchPlan) -> SearchResult:
        cache, head, report = self.rows.images, self.options.head, self.options.report
        with report.task(f"Searching {head} on {layer}", None) as advance:
            found = search_head(
                head,
                rows,
                plan,
                self.fitting,
                folds=self.rows.folds(self.options.cv),
                key=f"{cache.key} {layer} {self.rows.digest} {self.projection}{digest_of(self.rows, self.columns)}",
                journal=self.run.with_name(f".{self.run.name}.search"),
                progress=advance,
            )
        if found.resumed:
            report.note(f"Resumed {found.resumed} of {len(found.trials)} trials of an interrupted search.")
        return found


def _write(folder: Path, best: _Fit, rows: LearningRows[AnyCache]) -> None:
    """Write the head, its split and predictions, and the tables of its selection."""
    fitted = best.fitted
    save_head(fitted, folder)
    save_split(folder, rows)
    save_validation(folder, rows, fitted)
    if fitted.curve is not None:
        fitted.curve.to_csv(folder / "curve.csv")
    if best.found:
        write_table(fitted.trials, folder / "search.csv")


def _write_rejection(
    folder: Path, layer: str, rows: LearningRows[AnyCache], options: TrainHeadOptions
) -> None:
    """Write the reference by which images of unknown classes are rejected, if validation rows can set a threshold."""
    if not len(rows.val):
        return
    X, labels = layer_features(rows.images, layer), rows.images.labels
    fitted = fit_rejection(X, labels, rows.train, rows.val, seed=options.seed, device=options.device)
    save_rejection(fitted, folder)


def _draw(
    folder: Path, run: Path, best: _Fit, rows: LearningRows[AnyCache], options: TrainHeadOptions
) -> None:
    """Draw the curves of the selection into the folder that becomes the run, and has all numbers."""
    curve, found, trials = best.fitted.curve, best.found, best.fitted.trials
    title = f"{options.head} on {rows.images.path.name}"
    if curve is not None:
        drawn(
            folder / "curve.png",
            lambda path: plot_curve(curve, path, title=title),
            options.report,
            place=run,
        )
    if found:
        drawn(
            folder / "search.png",
            lambda path: plot_search(trials, found.params, path, title=f"search for {title}"),
            options.report,
            place=run,
        )


def _record(
    result: TrainResult, rows: LearningRows[AnyCache], fitted: FittedHead, options: TrainHeadOptions
) -> HeadRun:
    cache = rows.images
    return HeadRun(
        created=now(),
        options=options.settings(),
        caches=describe_caches(cache),
        layer=result.layer,
        classes=cache.classes,
        split=describe_split(rows, options.fractions),
        head=describe_head(fitted, result.head),
        seed=options.seed,
        trials=tuple(result.trials),
        metrics=describe_metrics(fitted),
        seconds=Durations(fit=fitted.seconds, total=result.seconds),
        versions=library_versions(),
    )
