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
        help="Last stage that stays frozen; see: frostline backbones NAME --stages",
    ),
    click.option(
        "--unfreeze-every",
        type=int,
        metavar="N",
        help="Move the frost line down by one stage every N epochs.",
    ),
    click.option("--epochs", default=10, metavar="N", help="Passes over the training images."),
    click.option(
        "--batch-size",
        default=64,
        metavar="N",
        help="Batch size per optimizer step, summed over all processes.",
    ),
    click.option(
        "--accumulate",
        default=1,
        metavar="N",
        help="Split each optimizer step into N passes, to save memory.",
    ),
    choice_option("--optimizer", ["sgd", "adamw"], "Optimizer."),
    click.option(
        "--lr",
        type=float,
        help="Peak learning rate of the head.  [default: depends on optimizer and batch size, e.g. sgd 0.01, or 0.05 from scratch]",
    ),
    click.option("--momentum", default=0.9, help="Momentum (sgd only)."),
    click.option("--nesterov/--no-nesterov", default=True, help="Use Nesterov momentum (sgd only)."),
    click.option(
        "--weight-decay",
        type=float,
        help="Weight decay; norms, biases, layer scales, tokens and positions are exempt.  [default: sgd 0.0005, adamw 0.05]",
    ),
    click.option(
        "--backbone-lr",
        type=float,
        help="Learning rate of the backbone relative to that of the head.  [default: 0.1, or 1 from scratch]",
    ),
    click.option(
        "--layer-decay", default=1.0, help="Factor of the learning rate from each stage to the one below."
    ),
    choice_option(
        "--schedule",
        ["cosine", "step", "onecycle", "constant"],
        "Learning rate schedule; step: divide by ten at 60 % and at 85 % of the epochs.",
    ),
    click.option("--warmup", default=1.0, metavar="EPOCHS", help="Warm-up epochs."),
)
_regularisation_options = several(
    click.option(
        "--augment",
        type=click.Choice(["none", "flip", "shift", "crop"]),
        default="crop",
        help="Augmentation of training images; shift: flip and move by up to an eighth, for small images; crop: flip and take a random part.",
    ),
    click.option(
        "--views",
        default=1,
        metavar="K",
        help="Cache K versions of each image, varied as by crop, and draw one of them in each epoch.",
    ),
    click.option(
        "--randaugment",
        default=0,
        metavar="0-30",
        help="Magnitude of the two operations of RandAugment; 0 for none.",
    ),
    click.option(
        "--erasing", default=0.0, metavar="P", help="Probability of greying out a random rectangle."
    ),
    click.option(
        "--mixup",
        default=0.0,
        metavar="ALPHA",
        help="Alpha of mixup (blend two images and their labels); 0 for none.",
    ),
    click.option(
        "--cutmix",
        default=0.0,
        metavar="ALPHA",
        help="Alpha of CutMix (paste a part of one image into another); 0 for none.",
    ),
    click.option(
        "--label-smoothing",
        default=0.0,
        metavar="SHARE",
        help="Share of each target that is spread over all classes.",
    ),
    click.option("--dropout", default=0.0, metavar="P", help="Dropout probability before the head."),
    choice_option(
        "--statistics",
        ["auto", "frozen", "batch"],
        "Batch-norm statistics: frozen keeps the pretrained ones, batch updates them; auto freezes them unless training from scratch.",
    ),
    click.option(
        "--ema",
        type=float,
        metavar="DECAY",
        help="Use a moving average of the weights with this decay, e.g. 0.999.",
    ),
    click.option("--clip", type=float, metavar="NORM", help="Clip the gradient to this norm."),
    click.option(
        "--patience", type=int, metavar="N", help="Stop after N epochs without improvement on validation."
    ),
)


def _recipe_options(command: Command) -> Command:
    """Add the fields of `pipeline.Recipe` as options, and pass them to the command as `recipe`."""

    @_optimisation_options
    @_regularisation_options
    @click.option("--compile/--no-compile", default=False, help="Compile the network with torch.compile.")
    @precision_option("Number format of the passes; auto: bf16 or fp16 on a GPU, else fp32.")
    @seed_option("Random seed.")
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
    "--from-run", type=PATH, metavar="RUN", help="Start from the head or the fine-tuned network of this run."
)
@click.option("--from-scratch", is_flag=True, help="Start from random weights.")
@image_size_option
@click.option(
    "--cached/--no-cached",
    default=None,
    help="Compute the output of the frozen stages once and train on it.  [default: if nothing random lies below the frost line]",
)
@_recipe_options
@run_option("runs/DATA.BACKBONE-finetune")
@device_option
@click.option(
    "--workers", type=click.IntRange(min=0), metavar="N", help="Decoding processes.  [default: one per core]"
)
@fractions_option
@limit_option
@max_bad_option
@click.option(
    "--log-to", type=click.Choice(["tensorboard", "mlflow"]), help="Also log to TensorBoard or MLflow."
)
@click.option("--restart", is_flag=True, help="Discard an unfinished training of the same run.")
@output_options
def finetune(*, output: Output, data: Path, **options: Any) -> None:
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
    yield f"Next: frostline evaluate {result.run}"
