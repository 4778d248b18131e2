"""``frostline finetune``."""

from pathlib import Path
from typing import Any

import click

from frostline import pipeline
from frostline.commands.interface.options import DATA, example, options_of, output_options
from frostline.commands.interface.output import Output, Text, listed, named
from frostline.pipeline.options.learning.recipe import Recipe
from frostline.pipeline.options.learning.tuning import FinetuneOptions
from frostline.shell import shell_command


@click.command(
    epilog=example(
        "frostline finetune photos/ --frost-line blocks.3 --augment none --from-run runs/photos-linear",
        "frostline finetune photos/ --backbone small:resnet18 --from-scratch --augment shift --epochs 30",
    )
)
@click.argument("data", type=DATA)
@options_of(FinetuneOptions, but=["caches"])
@options_of(Recipe, into="recipe")
@output_options
def finetune(*, output: Output, data: str | Path, **options: Any) -> None:
    """Train a backbone above its frost line, and a linear head.

    The images are those of DATA, and the result is written as a run. Everything below the frost line stays frozen,
    to the last bit. The epoch with the best validation score is kept; test images are never read. The same command
    resumes an interrupted training. Grey images are converted to three equal channels.

    To use every GPU of a machine: torchrun --nproc-per-node gpu --no-python -- frostline finetune DATA ... (or
    accelerate launch).
    """
    result = pipeline.finetune(data, report=output.report, **options)
    output.show(result, _finetuning_text(result))


def _finetuning_text(result: "pipeline.FinetuneResult") -> Text:
    start = "from scratch" if result.from_scratch else f"frost line: {result.frost_line}"
    yield (
        f"{result.run}: {result.backbone}, {start}, {result.trained:,} parameters trained, {result.frozen:,} frozen,"
        f" {len(result.history)} epochs in {result.training_seconds:.1f} s"
    )
    scores = (
        f"; validation: {named(result.validation)} (epoch {result.best_epoch})" if result.validation else ""
    )
    yield f"images: {listed(result.counts)}{scores}"
    yield from result.found.lines()
    yield f"Next: {shell_command('frostline', 'evaluate', result.run)}"
