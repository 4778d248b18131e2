"""Commands that help to choose a backbone: ``backbones`` and ``rank``."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from frostline import pipeline
from frostline.commands.interface.options import PATH, example, options_of, output_options
from frostline.commands.interface.output import Output, Table, Text
from frostline.pipeline.options.inspection import RankOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.features.backbones import BackboneInfo, Stage


@click.command(epilog=example("frostline backbones 'resnet*'", "frostline backbones resnet18 --stages"))
@click.argument("pattern", required=False)
@click.option("--stages", is_flag=True, help="List the stages of the named backbone, in order of execution.")
@output_options
def backbones(*, output: Output, pattern: str | None, stages: bool) -> None:
    """List the backbones whose name matches PATTERN.

    PATTERN is a part of the name, or a glob. Without it, list the backbones that need no download.
    """
    if stages:
        _show_stages(output, pattern)
        return
    from frostline.features.backbones import list_backbones

    with output.report.task("Describing backbones", None):
        found = list(list_backbones(pattern))
    output.show(found, _backbones_text(found, everything=pattern is None))


def _backbones_text(found: "Sequence[BackboneInfo]", *, everything: bool) -> Text:
    rows = [
        [
            each.name,
            each.source,
            f"{each.parameters / 1e6:.2f} M",
            f"{each.gflops:.2f}",
            str(each.dim),
            "x".join(map(str, each.input_size)),
            each.weights,
        ]
        for each in found
    ]
    yield Table(["name", "source", "parameters", "GFLOPs", "width", "input", "weights"], rows)
    if everything:
        from frostline.features.backbones import count_backbones

        counts = ", ".join(f"{count} in {source}" for source, count in count_backbones().items())
        yield ""
        yield f"Pass a name or pattern to list more (most need a download): {counts}."


def _show_stages(output: Output, name: str | None) -> None:
    if name is None:
        raise click.UsageError("--stages needs the name of one backbone.")
    from frostline.features.backbones import list_stages

    stages = list_stages(name)
    output.show(stages, [_stages_table(stages)])


def _stages_table(stages: "Sequence[Stage]") -> Table:
    flops = sum(stage.flops for stage in stages) or 1
    rows = [
        [
            stage.name,
            "x".join(map(str, stage.shape)),
            f"{math.prod(stage.shape) * 2 / 1024:.0f} KiB",
            f"{stage.parameters / 1e6:.3f} M",
            f"{stage.flops / flops:.0%}",
        ]
        for stage in stages
    ]
    return Table(["stage", "output", "as float16", "parameters", "FLOPs"], rows)


@click.command(epilog=example("frostline rank resnet50.h5 vit.h5 efficientnet.h5"))
@click.argument("caches", type=PATH, nargs=-1, required=True, metavar="CACHE...")
@options_of(RankOptions)
@output_options
def rank(*, output: Output, caches: tuple[Path, ...], **options: Any) -> None:
    """Rank CACHEs of the same images before training.

    The scores are LogME, H-score and the accuracy of the nearest neighbour, on the features and labels of train and
    val; a cache that holds logits also gets LEEP and NCE. Larger is better, and only the order of the scores is
    meaningful. For layers of very different widths trust 1-NN: LogME and H-score favour wide layers.
    """
    result = pipeline.rank(caches, report=output.report, **options)
    output.show(result, _ranking_text(result))


def _ranking_text(result: "pipeline.Ranking") -> Text:
    from frostline.pipeline.inspection.rank_backbones import SCORES

    rows = [
        [
            str(place),
            each.cache.name,
            each.layer,
            str(each.width),
            *("-" if (value := getattr(each, name)) is None else f"{value:.4f}" for name in SCORES),
        ]
        for place, each in enumerate(result.ranked, 1)
    ]
    yield Table(["", "cache", "layer", "width", *SCORES.values()], rows)
    yield from result.notes
