"""The evaluate stage: score a run on the test split and record the evaluation in its ledger."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.fitting.fitted_head import softened
from frostline.classifiers.protocol.calibration import Calibration, Reliability, reliability
from frostline.classifiers.protocol.metrics import METRICS, Metrics, score
from frostline.features.errors import SourceError
from frostline.features.table import ImageSource
from frostline.pipeline.drawing.thumbnails import check_source
from frostline.pipeline.errors import RunError
from frostline.pipeline.extraction.compute import fill_cache
from frostline.pipeline.inputs.joined_caches import AnyCache, image_digests, open_caches
from frostline.pipeline.inputs.side_columns import head_rows
from frostline.pipeline.inputs.sources import opened_source
from frostline.pipeline.judging.pictures import draw_evaluation
from frostline.pipeline.options.extraction import CacheOptions
from frostline.pipeline.options.sources import SourceOptions
from frostline.pipeline.progress import SILENT, Reporter
from frostline.pipeline.runs.caches import check_compatible
from frostline.pipeline.runs.data_changes import DataChanges, compare_data
from frostline.pipeline.runs.directory import sweep_runs
from frostline.pipeline.runs.evaluation import (
    CONFUSION,
    MISTAKES,
    RELIABILITY,
    CalibrationRecord,
    ClassLine,
    Evaluation,
    IntervalRecord,
    MetricEstimates,
    ReliabilityRecord,
    check_evaluation_place,
    save_evaluation,
)
from frostline.pipeline.runs.predictions import Predictions
from frostline.pipeline.runs.run import Run, load_run
from frostline.shell import shell_command
from frostline.splits import Split


@dataclass(frozen=True)
class EvaluationResult:
    """Result of an evaluation on the test split.

    Attributes:
        run: Run directory.
        cache: Path of the cache that holds the test rows.
        rows: Number of test rows.
        evaluation_number: Number of this evaluation in the run's ledger; only the first is unbiased by earlier ones.
        metrics: Each metric with its 95 % interval, the per-class table and the confusion matrix.
        confusion: Plot of the confusion matrix; None if it could not be drawn.
        calibration: Reliability before and after temperature scaling.
        reliability: Reliability diagram; None if it could not be drawn.
        mistakes: Plot of the most confident mistakes; None without mistakes, or if it could not be drawn.
        data: Differences between the images that the run was trained on and those of the cache.
        seconds: Wall time.
    """

    run: Path
    cache: Path
    rows: int
    evaluation_number: int
    metrics: Metrics
    confusion: Path | None
    calibration: Calibration
    reliability: Path | None
    mistakes: Path | None
    data: DataChanges
    seconds: float


def evaluate(
    run: str | Path,
    cache: str | Path | AnyCache | None = None,
    *,
    source: ImageSource | None = None,
    trusted: Collection[str] = (),
    report: Reporter = SILENT,
) -> EvaluationResult:
    """Evaluate a run on the test split of its cache, or of another cache with the same specification.

    The evaluation is recorded in the run's ledger before any prediction is made.

    Args:
        run: Run directory.
        cache: Cache to evaluate on, or several joined by ``+`` if the run was trained on several; by default the
            caches it was trained on. For a fine-tuned run the default is the features of all images by its own
            backbone, which are computed and kept in the run.
        source: Source of the images, for the plot of mistakes and for the features of a fine-tuned run; required only
            for one that can't be opened by its name.
        trusted: Modules or types to trust when loading a third-party head; see `frostline.classifiers.saving.head_files.load_head`.
        report: Receiver of progress.

    Raises:
        RunError: The run is not readable, the specification of the cache differs, or the run was trained on its
            test rows.
        FeaturesError: The cache is not usable, or `source` has none of its images.
        ClassifiersError: The head or the split is not usable.
    """
    started = time.perf_counter()
    opened = load_run(run)
    sweep_runs([opened.path])
    if cache is None and opened.tuning:
        _extract(opened, source, opened.tuning.limit, report)
    data = _recorded_caches(opened) if cache is None else open_caches(cache)
    check_source(data, source)
    changes = _check_data(opened, data, named=cache is not None, report=report)
    check_compatible(opened, data, report)
    test = np.flatnonzero(opened.divide(data) == Split.TEST)
    _check_test(opened, data, test)
    head = opened.head(trusted=trusted)
    labels = _head_labels(data, test, head.classes)

    rows = head_rows(data, opened.layer, head.columns)
    check_evaluation_place(opened.path, rows=len(test))
    number = opened.ledger.record(cache=str(data.path), key=data.key, rows=len(test), report=report)
    if number > 1:
        report.warn(
            f"{opened.path} has now been evaluated on the test split {number} times. Choosing between runs, or changing"
            " anything, based on test results makes them optimistic; choose on validation."
        )
    with report.task("Evaluating", None):
        logits = head.logits(rows[test])
        probabilities = softened(logits, head.temperature)
        metrics = score(labels, probabilities, classes=head.classes)
    calibration = Calibration(
        head.temperature, reliability(labels, softened(logits, 1)), reliability(labels, probabilities)
    )
    save_evaluation(
        opened.path,
        _described(number, data, metrics, calibration, len(test)),
        Predictions.of(
            data.ids[test], labels, probabilities.argmax(axis=1), probabilities.max(axis=1), head.classes
        ),
    )
    pictures = draw_evaluation(opened.path, report, cache=data, source=source)
    return EvaluationResult(
        run=opened.path,
        cache=data.path,
        rows=len(test),
        evaluation_number=number,
        metrics=metrics,
        confusion=pictures[CONFUSION],
        calibration=calibration,
        reliability=pictures[RELIABILITY],
        mistakes=pictures[MISTAKES],
        data=changes,
        seconds=time.perf_counter() - started,
    )


def _extract(run: Run, source: ImageSource | None, limit: int | None, report: Reporter) -> None:
    """Compute the missing features of a fine-tuned run's data with its own backbone."""
    (cache,) = run.caches
    net = run.backbone(cache)
    precision = cache.spec.precision  # the head was calibrated in this precision
    try:
        reading = cache.reading if source is None else {}
        images = opened_source(source or cache.source, SourceOptions(limit=limit, report=report, **reading))
    except SourceError as error:
        raise SourceError(
            f"{error}. The features of {run.path} are computed from its images: in Python, pass their source as `source`"
        ) from error
    with images as opened:
        options = CacheOptions(precision=precision, report=report)
        fill_cache(opened, net, net.resolve_layers(["embedding"]), Path(cache.path), options)


def _recorded_caches(run: Run) -> AnyCache:
    """Open the caches that a run was trained on."""
    try:
        return open_caches([each.path for each in run.caches])
    except FileNotFoundError as error:
        lost = [each.path for each in run.caches if not Path(each.path).exists()]
        places = "+".join(["NEW-PLACE.h5"] * len(run.caches))
        command = shell_command("frostline", "evaluate", run.path, places)
        raise RunError(
            f"{run.path} was trained on {', '.join(lost)}, which {'does' if len(lost) == 1 else 'do'} not exist. If it was"
            f" moved, name its new place: {command}; else extract its images again."
        ) from error


def _check_data(run: Run, data: AnyCache, *, named: bool, report: Reporter) -> DataChanges:
    """Report how the images differ from those of the run, and refuse those of another data set that was not named.

    Images were added, removed, repaired or relabelled in many data sets since a run, and a run may be evaluated on
    another data set on purpose. But a cache that was replaced by that of another data set is a mistake.
    """
    changes = compare_data(run, data)
    if changes.is_other and not named:
        raise RunError(
            f"{data.path} does not hold the images that {run.path} was trained on: {changes}. If it was replaced by the"
            " cache of another data set, extract the first one again. To evaluate on these images, name the cache:"
            f" {shell_command('frostline', 'evaluate', run.path, data.path)}"
        )
    if not changes.is_same:
        report.note(
            f"The images of {data.path} differ from those that {run.path} was trained with: {changes}."
        )
    return changes


def _check_test(run: Run, cache: AnyCache, test: NDArray[np.intp]) -> None:
    if not len(test):
        raise RunError(
            f"{cache.path} has no labelled test rows to evaluate {run.path} on. Its data has only train and val"
            " splits: add a test split and run extract again."
        )
    leaked = np.flatnonzero(np.isin(image_digests(cache.content[test]), run.split.trained))
    if len(leaked):
        names = ", ".join(cache.ids[test[leaked[:5]]])
        raise RunError(
            f"{len(leaked)} of the {len(test)} test images of {cache.path} are identical, byte for byte, to"
            f" images that {run.path} was trained or selected on: {names}{' ...' if len(leaked) > 5 else ''}."
            " Remove them from one of the two splits, then extract and train again."
        )


def _head_labels(cache: AnyCache, rows: NDArray[np.intp], classes: Sequence[str]) -> NDArray[np.int64]:
    """Return the labels of `rows` as indices into the classes of the head."""
    position = {name: index for index, name in enumerate(classes)}
    unknown = sorted({cache.classes[label] for label in np.unique(cache.labels[rows])} - set(position))
    if unknown:
        raise RunError(
            f"The test rows of {cache.path} have classes that the head was not trained on: {', '.join(unknown)}."
            " Train again on data that has these classes, or remove the images."
        )
    numbers = np.array([position.get(name, -1) for name in cache.classes], np.int64)
    return numbers[cache.labels[rows]]


def _described(
    number: int, cache: AnyCache, metrics: Metrics, calibration: Calibration, rows: int
) -> Evaluation:
    """Return the record that is saved in the run."""
    return Evaluation(
        evaluation_number=number,
        cache=str(cache.path),
        rows=rows,
        metrics=MetricEstimates(**{name: IntervalRecord(*getattr(metrics, name)) for name in METRICS}),
        per_class=tuple(ClassLine(*line) for line in metrics.per_class),
        confusion=tuple(map(tuple, metrics.confusion.tolist())),
        calibration=CalibrationRecord(
            temperature=calibration.temperature,
            before=_reliability(calibration.before),
            after=_reliability(calibration.after),
        ),
    )


def _reliability(found: Reliability) -> ReliabilityRecord:
    return ReliabilityRecord(
        rms_calibration_error=IntervalRecord(*found.rms_calibration_error),
        edges=tuple(found.edges.tolist()),
        counts=tuple(found.counts.tolist()),
        confidence=tuple(found.confidence.tolist()),
        accuracy=tuple(found.accuracy.tolist()),
    )
