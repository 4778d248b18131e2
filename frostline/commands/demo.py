"""``frostline demo``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from frostline.commands.extract import extraction_text
from frostline.commands.interface.options import PATH, example, output_options
from frostline.commands.interface.output import Output, Table, Text
from frostline.commands.judge import evaluation_text
from frostline.commands.train import training_text

if TYPE_CHECKING:
    from frostline.pipeline.demo import DemoResult


@click.command(epilog=example("frostline demo"))
@click.option("--folder", type=PATH, default=Path("frostline-demo"), help="Output folder.")
@output_options
def demo(*, output: Output, folder: Path) -> None:
    """Extract, train and evaluate on 1,797 scanned digits."""
    from frostline.pipeline.demo import run_demo

    result = run_demo(folder, report=output.report)
    output.show(result, _demo_text(result))


def _demo_text(result: "DemoResult") -> Text:
    yield from extraction_text(result.extraction)
    yield from training_text(result.training)
    yield ""
    yield from evaluation_text(result.evaluation)
    yield ""
    seconds = {
        "extract": result.extraction.seconds,
        "train-head": result.training.seconds,
        "evaluate": result.evaluation.seconds,
    }
    yield Table(["stage", "seconds"], [[stage, f"{time:.1f}"] for stage, time in seconds.items()])
    accuracy = result.evaluation.metrics.top1
    yield ""
    yield f"test accuracy: {accuracy.value:.1%} (95 % interval {accuracy.low:.1%} to {accuracy.high:.1%})"
    yield f"images: {result.images}"
    yield f"cache:  {result.extraction.cache}"
    yield f"run:    {result.training.run}"
