"""Commands that use a run: ``evaluate`` and ``predict``."""

import io
from typing import TYPE_CHECKING, Any

import click

from frostline import pipeline
from frostline.commands.options import (
    COUNT,
    PATH,
    batch_size_option,
    device_option,
    engine_option,
    example,
    format_option,
    output_options,
    precision_option,
    workers_option,
)
from frostline.commands.output import Output, Table, Text

if TYPE_CHECKING:
    from collections.abc import Sequence

_trust_option = click.option(
    "--trust",
    "trusted",
    multiple=True,
    metavar="TYPE",
    help="Trust this type when loading a third-party head (train-head lists the types).",
)


@click.command(epilog=example("frostline evaluate runs/photos-linear"))
@click.argument("run", type=PATH)
@click.argument("cache", type=PATH, required=False, metavar="[CACHE[+CACHE...]]")
@_trust_option
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
    from frostline.pipeline.judging.evaluate import METRICS

    metrics = [
        [name.replace("_", " "), f"{interval.value:.4f}", f"{interval.low:.4f} - {interval.high:.4f}"]
        for name, interval in ((name, getattr(result.metrics, name)) for name in METRICS)
    ]
    title = f"{result.run}: {result.rows} test images, evaluation {result.evaluation_number}"
    yield Table(["metric", "value", "95 % interval"], metrics, title=title)
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
        f" validation): {result.reliability}"
    )
    yield f"confusion matrix: {result.confusion}"
    if result.mistakes:
        yield f"most confident mistakes: {result.mistakes}"


@click.command(epilog=example("frostline predict runs/photos-linear new/ one.jpg --format csv > labels.csv"))
@click.argument("run", type=PATH)
@click.argument("paths", type=PATH, nargs=-1, required=True, metavar="IMAGE|FOLDER...")
@click.option("--top-k", type=COUNT, default=5, metavar="K", help="Classes listed per image.")
@format_option("csv", "json")
@click.option(
    "--weights",
    multiple=True,
    metavar="FILE",
    help="Weights of the backbone, if the file was moved. Repeat for a run on several backbones, in their order.",
)
@precision_option("Number format of the forward pass; auto: that of the features RUN was trained on.")
@engine_option(
    "Engine that executes the forward pass; auto: the one that computed these features, else the fastest that agrees with it."
)
@device_option
@batch_size_option
@workers_option
@_trust_option
@output_options
def predict(*, output: Output, **options: Any) -> None:
    """Label new images with RUN.

    Images go through the backbone, transform, layer and head of RUN. An image that cannot be read gets the reason
    in place of a label, and the exit code is 1.
    """
    predictions = pipeline.predict(report=output.report, **options)
    output.show(predictions, _predictions_text(predictions))
    unread = sum(prediction.error is not None for prediction in predictions)
    if unread:
        raise click.ClickException(
            f"{unread} of {len(predictions)} images could not be read; see the error column."
        )


def _predictions_text(predictions: "Sequence[pipeline.Prediction]") -> Text:
    from frostline.pipeline.judging.predict import write_csv

    text = io.StringIO()
    write_csv(predictions, text)
    yield text.getvalue().removesuffix("\n")
