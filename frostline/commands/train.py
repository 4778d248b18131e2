"""Commands that train heads on a cache: ``train-head``, ``few-shot`` and ``learning-curve``."""

import contextlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import click

from frostline import pipeline
from frostline.commands.interface.options import PATH, example, options_of, output_options
from frostline.commands.interface.output import Output, Table, Text, listed, named, number
from frostline.pipeline.options.cluster import ClusterOptions
from frostline.pipeline.options.learning.heads import FewShotOptions, LearningCurveOptions, TrainHeadOptions
from frostline.shell import shell_command

_caches_argument = click.argument("cache", type=PATH, metavar="CACHE[+CACHE...]")


@click.command(
    epilog=example(
        "frostline train-head photos.h5 --head linear",
        "frostline train-head photos.h5 --head mlp --param hidden=256,128 --run runs/mlp",
        "frostline train-head a.h5+b.h5 --project pca:256",
        "frostline train-head photos.h5 --head svm --param kernel=rbf --search random --trials 40 --cv 5",
    ),
)
@_caches_argument
@options_of(TrainHeadOptions)
@options_of(ClusterOptions)
@output_options
def train_head(*, output: Output, cache: Path, cluster: str | None, **options: Any) -> None:
    """Train a classifier on cached features and write it as a run.

    Join caches of the same images from several backbones with +: their features are concatenated.

    Hyper-parameters are chosen on the validation rows; the test rows are never read. A stable hash of the image
    assigns a split to rows without one, so a growing data set keeps its assignment.
    """
    searched = options["search"] is not None or options["cv"] is not None
    if cluster is not None and not searched:
        raise click.UsageError("--cluster needs a search: add --search or --cv.")
    if cluster is not None and options["jobs"] is not None:
        raise click.UsageError(
            "--jobs runs on this machine and --cluster on a cluster: pass only one of them."
        )
    with _on_cluster(cluster):
        result = pipeline.train_head(cache, report=output.report, **options)
    output.show(result, _trained_text(result, searched=searched))


def _on_cluster(address: str | None) -> AbstractContextManager[Any]:
    if address is None:
        return contextlib.nullcontext()
    from frostline.pipeline.hosts.dask_cluster import connected

    return connected(address)


def _trained_text(result: "pipeline.TrainResult", *, searched: bool) -> Text:
    if searched:
        yield _best_trials(result.trials)
        yield ""
    yield from training_text(result)


def _best_trials(trials: Sequence[Mapping[str, Any]]) -> Table:
    """Return the ten best trials, those on all training rows first."""
    shown = sorted(trials, key=lambda trial: (-trial["share"], -trial["accuracy"], trial["log_loss"]))[:10]
    rows = [[number(value) for value in trial.values()] for trial in shown]
    return Table(list(shown[0]), rows, title=f"The best {len(shown)} of {len(trials)} trials")


def training_text(result: "pipeline.TrainResult") -> Text:
    """Describe a trained head: its parameters, rows, scores and the next command."""
    chosen = named(result.params, "=")
    yield f"{result.run}: {result.head} on {result.layer} ({chosen}) in {result.seconds:.1f} s"
    scores = f"; validation: {named(result.validation)}" if result.validation else ""
    yield f"rows: {listed(result.counts)}{scores}"
    yield f"Next: {shell_command('frostline', 'evaluate', result.run)}"


@click.command(epilog=example("frostline few-shot photos.h5 --shots 1 --shots 5 --episodes 200"))
@_caches_argument
@options_of(FewShotOptions)
@output_options
def few_shot(*, output: Output, cache: Path, **options: Any) -> None:
    """Measure the accuracy with only K training images per class.

    Each episode draws other training images and is scored on all validation rows; test rows are never read.
    Hyper-parameters are the head's defaults unless --param fixes them: so few images leave none to choose them on.
    """
    result = pipeline.few_shot(cache, report=output.report, **options)
    output.show(result, _few_shot_text(result))


def _few_shot_text(result: "pipeline.FewShotResult") -> Text:
    rows = [
        [
            str(each.shots),
            f"{each.accuracy:.4f}",
            f"{each.low:.4f} - {each.high:.4f}",
            f"{each.wide_low:.4f} - {each.wide_high:.4f}",
            f"{each.deviation:.4f}",
        ]
        for each in result.scores
    ]
    interval = f"{result.confidence:.0%} interval"
    yield Table(
        ["shots", "accuracy", f"{interval} over episodes", "over images as well", "deviation"],
        rows,
        title=f"{result.head} on {result.layer}: {len(result.scores[0].episodes)} episodes on {result.rows}"
        " validation images",
    )
    yield f"plot, table and JSON: {result.folder}"


@click.command(epilog=example("frostline learning-curve photos.h5   # would more images help?"))
@_caches_argument
@options_of(LearningCurveOptions)
@output_options
def learning_curve(*, output: Output, cache: Path, **options: Any) -> None:
    """Measure accuracy against the number of training images.

    The result says whether more images would help. Hyper-parameters that --param does not fix are chosen anew for
    each subset: on one half of the validation rows when the other half is scored. Test rows are never read.
    """
    result = pipeline.learning_curve(cache, report=output.report, **options)
    output.show(result, _learning_curve_text(result))


def _learning_curve_text(result: "pipeline.LearningCurveResult") -> Text:
    rows = [
        [str(each.images), f"{each.accuracy:.4f}", f"{each.low:.4f} - {each.high:.4f}", str(len(each.draws))]
        for each in result.points
    ]
    yield Table(
        ["images", "accuracy", f"{result.confidence:.0%} interval", "draws"],
        rows,
        title=f"{result.head} on {result.layer}, scored on {result.rows} validation images",
    )
    yield ""
    yield result.answer
    yield f"plot, table and JSON: {result.folder}"
