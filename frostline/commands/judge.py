"""Commands that use a run: ``evaluate`` and ``predict``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from frostline import pipeline
from frostline.commands.interface.options import (
    DATA,
    PATH,
    example,
    format_option,
    options_of,
    output_options,
)
from frostline.commands.interface.output import CsvTable, Output, Table, Text
from frostline.pipeline.options.judging import PredictOptions
from frostline.pipeline.options.trust import TrustOptions

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command(epilog=example("frostline evaluate runs/photos-linear"))
@click.argument("run", type=PATH)
@click.argument("cache", type=PATH, required=False, metavar="[CACHE[+CACHE...]]")
@options_of(TrustOptions)
@output_options
def evaluate(*, output: Output, **options: Any) -> None:
    """Evaluate RUN on the test split.

    The test split is that of the cache RUN was trained on, or of another CACHE made with the same settings. No
    other command scores test rows. Each evaluation is recorded in the run's ledger, and a repeated one prints a
    warning.
    """
    result = pipeline.evaluate(report=output.report, **options)
    output.show(result, evaluation_text(result))


def evaluation_text(result: "pipeline.EvaluationResult") -> Text:
    """Describe an evaluation: metrics with intervals, scores per class, calibration and the paths of the plots."""
    from frostline.classifiers.protocol.metrics import METRICS

    metrics = []
    for name, metric in METRICS.items():
        value, low, high = getattr(result.metrics, name)
        better = "higher" if metric.greater_is_better else "lower"
        metrics.append([name.replace("_", " "), f"{value:.4f}", f"{low:.4f} - {high:.4f}", better])
    title = f"{result.run}: {result.rows} test images, evaluation {result.evaluation_number}"
    yield Table(["metric", "value", "95 % interval", "better"], metrics, title=title)
    yield ""
    classes = [
        [row.name, f"{row.precision:.3f}", f"{row.recall:.3f}", f"{row.f1:.3f}", str(row.support)]
        for row in result.metrics.per_class
    ]
    yield Table(["class", "precision", "recall", "F1", "images"], classes)
    yield ""
    found = result.calibration
    yield (
        f"rms calibration error: {found.before.rms_calibration_error.value:.4f} before temperature scaling,"
        f" {found.after.rms_calibration_error.value:.4f} after (temperature {found.temperature:.3g}, fitted on"
        f" validation){f': {result.reliability}' if result.reliability else ''}"
    )
    if result.confusion:
        yield f"confusion matrix: {result.confusion}"
    if result.mistakes:
        yield f"most confident mistakes: {result.mistakes}"


@click.command(
    epilog=example(
        "frostline predict runs/photos-linear new/ one.jpg --format csv > labels.csv",
        "frostline predict runs/clip-linear --cache new.h5   # of vectors that were imported or extracted before",
    )
)
@click.argument("run", type=PATH)
@click.argument("images", type=DATA, nargs=-1, metavar="[IMAGE|FOLDER|DATA...]")
@format_option("csv", "json")
@options_of(PredictOptions)
@output_options
def predict(*, output: Output, run: Path, images: tuple[str | Path, ...], **options: Any) -> None:
    """Label new images with RUN.

    Images go through the backbone, transform, layer and head of RUN; rows of a --cache through its head. An image that
    cannot be read, and a row without features, gets the reason in place of a label, and the exit code is 1.
    """
    predictions = pipeline.predict(run, images or None, report=output.report, **options)
    output.show(predictions, _predictions_text(predictions))
    unread = sum(prediction.error is not None for prediction in predictions)
    if unread:
        what = "images could not be read" if options["cache"] is None else "rows have no features"
        raise click.ClickException(f"{unread} of {len(predictions)} {what}; see the error column.")


def _predictions_text(predictions: "Sequence[pipeline.Prediction]") -> Text:
    from frostline.pipeline.judging.prediction import as_csv

    yield CsvTable(*as_csv(predictions))
