"""Commands that train heads on a cache: ``train-head``, ``few-shot`` and ``learning-curve``."""

import contextlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from frostline import pipeline
from frostline.commands.options import (
    COUNT,
    PATH,
    cluster_option,
    example,
    fractions_option,
    head_device_option,
    head_option,
    layer_option,
    output_options,
    params_option,
    run_option,
    seed_option,
    several,
)
from frostline.commands.output import Output, Table, Text, listed, named, number

if TYPE_CHECKING:
    from frostline.classifiers.fitting.search import Method, SearchPlan


def _parse_memory(_context: click.Context, _option: click.Parameter, text: str | None) -> int | None:
    from frostline.pipeline.hosts.memory import parse_memory

    try:
        return parse_memory(text) if text is not None else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


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
@head_option(
    "Kind of head: linear, mlp, logreg, ridge, svm, knn, centroid, lda, forest, boosting, or module:Class for any"
    " scikit-learn classifier."
)
@params_option("Fix a hyper-parameter of the head; the others are chosen on validation.")
@layer_option(" a+b joins two; all tries each layer and all of them joined.")
@click.option(
    "--project",
    metavar="METHOD:WIDTH",
    help="Project the features first: pca:256 or random:256, fitted on the training rows and saved with the head.",
)
@run_option("runs/CACHE-HEAD")
@seed_option("Random seed of the head.")
@head_device_option
@fractions_option
@click.option(
    "--search",
    type=click.Choice(["grid", "random", "halving", "optuna"]),
    help="How to choose the hyper-parameters that --param does not fix.  [default: the head's own method; grid with --cv]",
)
@click.option(
    "--trials", type=COUNT, metavar="N", help="Number of candidates.  [default: all of a grid, else 30]"
)
@click.option(
    "--cv",
    type=click.IntRange(min=2),
    metavar="K",
    help="Cross-validate candidates on K folds of train and val.  [default: score on val]",
)
@click.option(
    "--jobs", type=int, metavar="N", help="Processes of the search; -1 for one per core.  [default: 1]"
)
@cluster_option
@click.option(
    "--memory",
    callback=_parse_memory,
    metavar="SIZE",
    help="Memory limit of the features, e.g. 2GB; linear streams larger ones in blocks.  [default: half of the machine's memory]",
)
@output_options
def train_head(
    *,
    output: Output,
    cache: Path,
    head: str,
    params: tuple[str, ...],
    search: "Method | None",
    trials: int | None,
    jobs: int | None,
    cluster: str | None,
    **options: Any,
) -> None:
    """Train a classifier on cached features and write it as a run.

    Join caches of the same images from several backbones with +: their features are concatenated.

    Hyper-parameters are chosen on the validation rows; the test rows are never read. A stable hash of the image
    assigns a split to rows without one, so a growing data set keeps its assignment.
    """
    plan = _search_plan(search, trials, jobs, cluster, folds=options["cv"])
    with _on_cluster(cluster):
        result = pipeline.train_head(
            cache, head, params=_parse_params(head, params), search=plan, report=output.report, **options
        )
    output.show(result, _trained_text(result, searched=plan is not None))


def _parse_params(head: str, texts: Sequence[str]) -> dict[str, Any]:
    from frostline.classifiers.heads.catalog import parse_params

    return parse_params(head, texts)


def _search_plan(
    method: "Method | None", trials: int | None, jobs: int | None, cluster: str | None, *, folds: int | None
) -> "SearchPlan | None":
    """Return the search that the options ask for, if any.

    Raises:
        click.UsageError: The options exclude each other.
    """
    plan = None
    if method is not None or folds is not None:
        from frostline.classifiers.fitting.search import SearchPlan

        plan = SearchPlan(method or "grid", trials, jobs)
    elif trials is not None or jobs is not None or cluster is not None:
        raise click.UsageError("--trials, --jobs and --cluster need a search: add --search or --cv.")
    if jobs is not None and cluster is not None:
        raise click.UsageError(
            "--jobs runs on this machine and --cluster on a cluster: pass only one of them."
        )
    return plan


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
    yield f"Next: frostline evaluate {result.run}"


_experiment_options = several(
    _caches_argument,
    head_option("Kind of head, as for train-head."),
    params_option("Fix a hyper-parameter of the head."),
    layer_option(" a+b joins two."),
    click.option("--out", type=PATH, metavar="DIR", help="Output folder.  [default: a new one under runs/]"),
    seed_option("Random seed of the draws and the heads."),
    head_device_option,
    fractions_option,
    click.option("--jobs", type=int, metavar="N", help="Processes; -1 for one per core.  [default: 1]"),
)


@click.command(epilog=example("frostline few-shot photos.h5 --shots 1 --shots 5 --episodes 200"))
@click.option(
    "--shots",
    type=COUNT,
    multiple=True,
    default=(1, 5),
    metavar="K",
    help="Training images per class. Repeat to measure several.",
)
@click.option(
    "--episodes", type=click.IntRange(min=2), default=100, metavar="E", help="Random draws for each K."
)
@_experiment_options
@output_options
def few_shot(*, output: Output, cache: Path, head: str, params: tuple[str, ...], **options: Any) -> None:
    """Measure the accuracy with only K training images per class.

    Each episode draws other training images and is scored on all validation rows; test rows are never read.
    Hyper-parameters are the head's defaults unless --param fixes them: so few images leave none to choose them on.
    """
    fixed = _parse_params(head, params)
    result = pipeline.few_shot(cache, head, params=fixed, report=output.report, **options)
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
@click.option(
    "--points",
    type=click.IntRange(min=2),
    default=8,
    metavar="N",
    help="Number of sizes: all training images, half of them, a quarter, ...",
)
@click.option(
    "--draws",
    type=click.IntRange(min=2),
    default=5,
    metavar="N",
    help="Number of random orders of the images.",
)
@_experiment_options
@output_options
def learning_curve(
    *, output: Output, cache: Path, head: str, params: tuple[str, ...], **options: Any
) -> None:
    """Measure accuracy against the number of training images.

    The result says whether more images would help. Hyper-parameters that --param does not fix are chosen anew for
    each subset: on one half of the validation rows when the other half is scored. Test rows are never read.
    """
    fixed = _parse_params(head, params)
    result = pipeline.learning_curve(cache, head, params=fixed, report=output.report, **options)
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
    yield f"\n{result.answer}\nplot, table and JSON: {result.folder}"
