"""``frostline finetune``."""

import functools
from pathlib import Path
from typing import Any

import click

from frostline import pipeline
from frostline.commands.options import (
    PATH,
    Command,
    backbone_option,
    choice_option,
    device_option,
    example,
    fractions_option,
    image_size_option,
    limit_option,
    max_bad_option,
    output_options,
    precision_option,
    run_option,
    seed_option,
    several,
    weights_option,
)
from frostline.commands.output import Output, Text, listed, named

_optimisation_options = several(
    click.option(
        "--frost-line",
        default="none",
        metavar="STAGE|none|all",
        help="The last stage that stays frozen; see: frostline backbones NAME --stages",
    ),
    click.option(
        "--unfreeze-every", type=int, metavar="N", help="Move the frost line down a stage every N epochs."
    ),
    click.option("--epochs", default=10, metavar="N", help="Passes over the images."),
    click.option("--batch-size", default=64, metavar="N", help="Images an update, over all processes."),
    click.option("--accumulate", default=1, metavar="N", help="Steps an update, to save memory."),
    choice_option("--optimizer", ["sgd", "adamw"], "Optimizer."),
    click.option(
        "--lr",
        type=float,
        help="Largest learning rate of the head.  [default: by optimizer and batch size, e.g. sgd 0.01, 0.05 from scratch]",
    ),
    click.option("--momentum", default=0.9, help="Of sgd."),
    click.option("--nesterov/--no-nesterov", default=True, help="Nesterov's momentum, of sgd."),
    click.option(
        "--weight-decay",
        type=float,
        help="Weight decay of the layers' weights, not of norms, biases, layer scales, tokens and positions."
        "  [default: sgd 0.0005, adamw 0.05]",
    ),
    click.option(
        "--backbone-lr",
        type=float,
        help="Factor of the backbone's learning rate.  [default: 0.1, but 1 from scratch]",
    ),
    click.option(
        "--layer-decay", default=1.0, help="Factor of the learning rate from a stage to the one below."
    ),
    choice_option(
        "--schedule",
        ["cosine", "step", "onecycle", "constant"],
        "How the learning rate falls; step: to a tenth at 60 % and at 85 %.",
    ),
    click.option("--warmup", default=1.0, metavar="EPOCHS", help="In which the rate rises first."),
)
_regularisation_options = several(
    click.option(
        "--augment",
        type=click.Choice(["none", "flip", "shift", "crop"]),
        default="crop",
        help="flip; shift: by an eighth, and flip, for small images; crop: a random part, and flip.",
    ),
    click.option(
        "--views",
        default=1,
        metavar="K",
        help="Cache K views of each image, as crop varies it, and draw one in each epoch.",
    ),
    click.option("--randaugment", default=0, metavar="0-30", help="Magnitude of two operations."),
    click.option("--erasing", default=0.0, metavar="P", help="Grey a random rectangle."),
    click.option("--mixup", default=0.0, metavar="ALPHA", help="Mix images, and labels."),
    click.option("--cutmix", default=0.0, metavar="ALPHA", help="Cut images into others."),
    click.option("--label-smoothing", default=0.0, metavar="SHARE", help="Of targets."),
    click.option("--dropout", default=0.0, metavar="P", help="Before the head."),
    choice_option(
        "--statistics",
        ["auto", "frozen", "batch"],
        "Of batch normalisation: as they came, or of each batch; auto: frozen but from scratch.",
    ),
    click.option(
        "--ema", type=float, metavar="DECAY", help="Keep a moving average of the weights, e.g. 0.999."
    ),
    click.option("--clip", type=float, metavar="NORM", help="Largest norm of a gradient."),
    click.option(
        "--patience", type=int, metavar="N", help="Stop after N epochs without a better validation."
    ),
)


def _recipe_options(command: Command) -> Command:
    """Add all that `pipeline.Recipe` consists of; the command gets it as `recipe`."""

    @_optimisation_options
    @_regularisation_options
    @click.option("--compile/--no-compile", default=False, help="torch.compile the network.")
    @precision_option("Of the passes; auto: bf16 or fp16 on a GPU, else fp32.")
    @seed_option("Seed of all random numbers.")
    @functools.wraps(command)
    def wrapped(**options: Any) -> Any:
        from frostline.pipeline.tuning.recipe import Recipe

        recipe = Recipe(**{name: options.pop(name) for name in Recipe.names()})
        return command(recipe=recipe, **options)

    return wrapped


@click.command(
    epilog=example(
        "frostline finetune photos/ --frost-line blocks.3 --augment none --from-run runs/photos-linear",
        "frostline finetune photos/ --backbone small:resnet18 --from-scratch --augment shift --epochs 30",
    )
)
@click.argument("data", type=PATH)
@backbone_option
@weights_option
@click.option(
    "--from-run", type=PATH, metavar="RUN", help="Start from the head, or the network, of this run."
)
@click.option("--from-scratch", is_flag=True, help="Start untrained.")
@image_size_option
@click.option(
    "--cached/--no-cached",
    default=None,
    help="Compute what lies below the frost line once, and train on that.  [default: where nothing below is random]",
)
@_recipe_options
@run_option("runs/DATA.BACKBONE-finetune")
@device_option
@click.option(
    "--workers", type=click.IntRange(min=0), metavar="N", help="Decoding processes.  [default: one a core]"
)
@fractions_option
@limit_option
@max_bad_option
@click.option("--log-to", type=click.Choice(["tensorboard", "mlflow"]), help="Also log there.")
@click.option("--restart", is_flag=True, help="Drop an unfinished training of the same run.")
@output_options
def finetune(*, output: Output, data: Path, **options: Any) -> None:
    """Train a backbone above its frost line, together with a linear head, on the images of DATA, and write it as a run.

    Everything below the frost line stays as it is, to the last bit. The best epoch is kept, by validation; test images
    are not looked at. The same command goes on where it was killed. Grey images become three equal channels.

    Every GPU of a machine: torchrun --nproc-per-node gpu --no-python -- frostline finetune DATA ... (or accelerate launch).
    """
    result = pipeline.finetune(data, report=output.report, **options)
    output.show(result, _finetuning_text(result))


def _finetuning_text(result: "pipeline.FinetuneResult") -> Text:
    start = "from scratch" if result.from_scratch else f"frost line: {result.frost_line}"
    yield (
        f"{result.run}: {result.backbone}, {start}, {result.trained:,} parameters trained, {result.frozen:,} frozen,"
        f" {len(result.history)} epochs in {result.training_seconds:.1f} s"
    )
    scores = f"; validation: {named(result.validation)} (epoch {result.best})" if result.validation else ""
    yield f"images: {listed(result.counts)}{scores}"
    yield f"Next: frostline evaluate {result.run}"
