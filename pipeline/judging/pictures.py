"""Pictures of an evaluation, drawn from the numbers that it left in its run."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from frostline.classifiers.protocol.calibration import Calibration, Reliability
from frostline.classifiers.protocol.intervals import Interval
from frostline.features.images.thumbnails import Thumbnail
from frostline.features.table import ImageSource
from frostline.pipeline.drawing.attempts import drawn
from frostline.pipeline.drawing.plots import Mistake, plot_confusion, plot_mistakes, plot_reliability
from frostline.pipeline.drawing.thumbnails import THUMBNAIL_SIDE, opened_pictures, warn_of_obstacle
from frostline.pipeline.errors import RunError
from frostline.pipeline.inputs.joined_caches import AnyCache, find, open_caches
from frostline.pipeline.progress import Reporter
from frostline.pipeline.runs.directory import rewriting
from frostline.pipeline.runs.evaluation import (
    CONFUSION,
    EVALUATION_PICTURES,
    MISTAKES,
    RELIABILITY,
    Evaluation,
    ReliabilityRecord,
    read_evaluation,
    read_test_predictions,
    wanted_pictures,
)
from frostline.pipeline.runs.predictions import Predictions

if TYPE_CHECKING:
    from collections.abc import Callable

_SHOWN_MISTAKES = 24


def draw_evaluation(
    run: Path,
    report: Reporter,
    *,
    cache: AnyCache | None = None,
    source: ImageSource | None = None,
) -> dict[str, Path | None]:
    """Draw the pictures of an evaluated run.

    Args:
        run: Run directory.
        report: Receiver of warnings about pictures that can't be drawn.
        cache: The cache with the test rows; None to open the one that the evaluation names.
        source: Source of the images; None for the one that the cache names.

    Returns:
        Path of each picture by name; None for those that could not be drawn, and for the mistakes if there are none.

    Raises:
        RunError: The evaluation or its predictions can't be read.
    """
    evaluation, predictions = read_evaluation(run), read_test_predictions(run)
    if evaluation is None:
        raise RunError(f"{run} was not evaluated. Run evaluate first.")
    title = f"{run.name}: {evaluation.rows} test images"
    classes = [line.name for line in evaluation.per_class]

    def confusion(path: Path) -> None:
        plot_confusion(np.array(evaluation.confusion, np.int64), classes, path, title=title)

    def reliability(path: Path) -> None:
        plot_reliability(_calibration(evaluation), path, title=title)

    def mistakes(path: Path) -> None:
        _draw_mistakes(predictions, cache or open_caches(evaluation.cache), source, path, report)

    plots: dict[str, Callable[[Path], None]] = {
        CONFUSION: confusion,
        RELIABILITY: reliability,
        MISTAKES: mistakes,
    }
    with rewriting(run, EVALUATION_PICTURES):
        return dict.fromkeys(EVALUATION_PICTURES) | {
            name: drawn(run / name, plots[name], report) for name in wanted_pictures(predictions)
        }


def _calibration(evaluation: Evaluation) -> Calibration:
    found = evaluation.calibration
    if found is None:
        raise RunError("an earlier version evaluated the run, without its calibration")
    return Calibration(found.temperature, _reliability(found.before), _reliability(found.after))


def _reliability(found: ReliabilityRecord) -> Reliability:
    error = found.rms_calibration_error
    return Reliability(
        edges=np.array(found.edges),
        counts=np.array(found.counts, np.int64),
        confidence=np.array(found.confidence),
        accuracy=np.array(found.accuracy),
        rms_calibration_error=Interval(error.value, error.low, error.high),
    )


def _draw_mistakes(
    predictions: Predictions, cache: AnyCache, source: ImageSource | None, path: Path, report: Reporter
) -> None:
    wrong = predictions.mistakes
    shown = predictions.take(wrong[:_SHOWN_MISTAKES])
    rows = find(shown.ids, cache.ids)  # -1 for an image that the cache has lost
    with opened_pictures(cache, source) as pictures:
        warn_of_obstacle(pictures, report)
        thumbnails = [
            pictures.thumbnail(int(row), THUMBNAIL_SIDE) if row >= 0 else Thumbnail(str(name), None)
            for row, name in zip(rows, shown.ids, strict=True)
        ]
    sides = zip(thumbnails, shown.labels, shown.predicted, shown.probability, strict=True)
    mistakes = [Mistake(image, true, predicted, float(sure)) for image, true, predicted, sure in sides]
    title = f"The {len(shown)} most confident of {len(wrong)} mistakes on test"
    plot_mistakes(mistakes, path, title=title, remark=pictures.obstacle)
