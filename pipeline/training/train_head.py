"""The train-head stage: train a classifier on cached features, select it on validation and write a run."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frostline.classifiers.fitting.fit import fit_head
from frostline.classifiers.fitting.fitted_head import FittedHead
from frostline.classifiers.fitting.inputs import FitOptions, LabelledRows
from frostline.classifiers.fitting.projection import ProjectedRows, ProjectionPlan, fit_projection
from frostline.classifiers.fitting.search import SearchPlan, SearchResult, search_head
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
    """Fit a head on the training rows of a cache, select its hyper-parameters on validation, and write a run.

    Neither the features nor the labels of test rows are read.

    Args:
        cache: The cache or its path; ``a.h5+b.h5``, or several paths, concatenate the features of several
            backbones for the same images.
        head: Kind of head; see `classifiers.heads.catalog.HEADS`.
        params: Hyper-parameters to fix; the others are selected on the validation rows.
        layer: Layer to read, required if the cache holds several. ``a+b`` joins two. ``all`` selects among each
            layer and all of them joined, by the scores that select hyper-parameters. For joined caches, the layer
            of that name in each of them; ``2/layer`` is the layer of the second cache alone.
        run: Run directory to write; by default a new one under ``runs/``.
        seed: Random seed of the head.
        device: Device on which torch heads train: ``auto``, ``cpu`` or ``cuda``.
        fractions: Fractions of train, val and test for data without declared splits.
        search: Hyper-parameter search; by default the head's own method. Finished trials are kept in a journal
            next to the run until it is written, so that an interrupted search resumes.
        cv: Number of folds of train and val rows to cross-validate candidates on, with copies and groups kept
            together; by default candidates are scored on the validation rows. Without `search`, the head's grid is
            searched.
        project: Project the features first, e.g. ``pca:256`` or ``random:256``. The projection is fitted on the
            training rows alone and saved with the head; see `classifiers.fitting.projection`.
        memory: Memory limit of the features in bytes; by default half of the machine's memory. ``linear`` streams
            larger features from the cache in blocks; other heads raise an error.
        report: Receiver of progress.

    Raises:
        ClassifiersError: The head, a parameter or the split is not usable.
        FeaturesError: The cache is not usable.
        LeakError: The same image bytes, or one group, are in more than one split.
        RunError: The run directory exists already, or the layer does not exist.
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
    _note_foreign_types(best.fitted, report)
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


def _note_foreign_types(fitted: FittedHead, report: Reporter) -> None:
    """Report the types that have to be trusted to load the head."""
    foreign = foreign_types(fitted.estimator)
    if foreign:
        report.note(
            f"The head contains types that skops does not trust by default: {', '.join(foreign)}. To use the run,"
            f" pass {' '.join(f'--trust {name}' for name in foreign)}"
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

    asked: Asked
    options: FitOptions
    rows: LearningRows[AnyCache]
    projection: ProjectionPlan | None
    run: Path
    report: Reporter

    @property
    def plan(self) -> SearchPlan | None:
        """The search; None for the head's own method."""
        return SearchPlan() if self.asked.search is None and self.asked.cv is not None else self.asked.search

    def fit(self, layer: str) -> _Fit:
        """Search the hyper-parameters and fit the head."""
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

    def _search(self, layer: str, rows: LabelledRows, plan: SearchPlan) -> SearchResult:
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
    """Write the head, its split and predictions, and the curves and tables of its selection."""
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
