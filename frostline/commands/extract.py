"""``frostline extract``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from frostline import pipeline
from frostline.commands.options import (
    COUNT,
    PATH,
    SHARE,
    backbone_option,
    batch_size_option,
    device_option,
    engine_option,
    example,
    image_size_option,
    limit_option,
    max_bad_option,
    output_options,
    overwrite_option,
    precision_option,
    seed_option,
    weights_option,
    workers_option,
)
from frostline.commands.output import Output, Text

if TYPE_CHECKING:
    from frostline.features.cache import Part


def _parse_part(_context: click.Context, _option: click.Parameter, text: str | None) -> "Part | None":
    from frostline.features.cache import Part
    from frostline.features.errors import PartError

    try:
        return Part.parse(text) if text is not None else None
    except PartError as error:
        raise click.BadParameter(str(error)) from None


@click.command(
    epilog=example(
        "frostline extract photos/ --backbone timm:resnet50 --layer embedding --layer layer3:avg --cache photos.h5"
    )
)
@click.argument("data", type=PATH)
@backbone_option
@weights_option
@click.option(
    "--layer",
    "layers",
    multiple=True,
    metavar="L[:POOL]",
    default=("embedding",),
    help="Layer to store, pooled by avg, max, gem, cls or none. Repeat to store several in one pass.",
)
@image_size_option
@click.option(
    "--views",
    type=COUNT,
    default=1,
    metavar="K",
    help="Versions of each image to store: the image itself and K - 1 random crops, for finetune.",
)
@seed_option("Random seed of the views.")
@click.option("--cache", type=PATH, metavar="FILE", help="Cache to write.  [default: DATA.BACKBONE.h5]")
@precision_option(
    "Number format of the forward pass; auto: that of an existing cache, else the fastest that reaches --min-cosine."
)
@engine_option(
    "Engine that executes the forward pass; auto: that of an existing cache, else the fastest for the number of images."
)
@click.option(
    "--min-cosine",
    type=SHARE,
    default=0.999,
    metavar="C",
    help="Smallest cosine similarity to eager fp32 that auto accepts, checked on a sample of the images.",
)
@click.option(
    "--store",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    help="Number format in the file.  [default: that of an existing cache, else float32]",
)
@device_option
@click.option(
    "--decoder",
    metavar="[exact|fast|NAME]",
    default="exact",
    help="exact: the pixels of the reference transform; fast: up to twice as fast, each pixel within 3 of 255.",
)
@batch_size_option
@workers_option
@limit_option
@max_bad_option
@click.option(
    "--part",
    callback=_parse_part,
    metavar="i/N",
    help="Compute only the i-th of N parts of the rows, into a separate file; see: frostline cache merge."
    "  [default: from torchrun's RANK and WORLD_SIZE]",
)
@overwrite_option
@output_options
def extract(*, output: Output, data: Path, part: "Part | None", **options: Any) -> None:
    """Compute the features of images and store them in a cache.

    DATA is an image folder (CLASS/..., or train|val|test/CLASS/...) or a CSV, TSV or Parquet manifest with the
    columns path and label and, optionally, split and group. Only features that the cache does not hold yet are
    computed: an interrupted run resumes from its last committed block, and of a changed data set only the new
    images are computed.

    To share the work between processes, give each a --part, or start one per GPU of a machine with torchrun
    --nproc-per-node gpu --no-python frostline extract DATA ...; then merge their files.
    """
    from frostline.pipeline.hosts.torchrun import join_launcher

    result = pipeline.extract(data, part=part or join_launcher(), report=output.report, **options)
    output.show(result, extraction_text(result))


def extraction_text(result: "pipeline.ExtractResult") -> Text:
    """Describe an extraction: what was computed, which images are unreadable, what to do next."""
    if result.unchanged:
        yield f"Nothing to do: {result.cache} already holds all {result.rows} images. No image was decoded."
    else:
        parts = [f"{result.computed} computed"]
        parts += [f"{result.copied} copied from an earlier cache"] if result.copied else []
        parts += [f"{result.resumed} already committed"] if result.resumed else []
        rate = f", {result.images_per_second:,.1f} images/s" if result.computed else ""
        engine = f"{result.engine}, {result.precision}"
        yield f"{result.cache}: {result.rows} images ({', '.join(parts)}{rate}; {engine})"
    if result.failed:
        yield f"{result.failed} unreadable images:"
        for name, reason in result.errors.items():
            yield f"  {name}: {reason}"
    if result.merge_command:
        yield f"This is part {result.part}. When all parts exist, run: {result.merge_command}"
