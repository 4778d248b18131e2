"""``frostline extract``."""

from typing import TYPE_CHECKING, Any

import click

from frostline import pipeline
from frostline.commands.interface.options import DATA, example, options_of, output_options
from frostline.commands.interface.output import Output, Table, Text
from frostline.pipeline.options.extraction import ExtractOptions

if TYPE_CHECKING:
    from pathlib import Path

    from frostline.features.cache import Part


@click.command(
    epilog=example(
        "frostline extract photos/ --backbone timm:resnet50 --layer embedding --layer layer3:avg --cache photos.h5"
    )
)
@click.argument("data", type=DATA)
@options_of(ExtractOptions)
@click.option("--dry-run", is_flag=True, help="Only list what would be read, and compute nothing.")
@output_options
def extract(
    *, output: Output, data: "str | Path", part: "Part | None", dry_run: bool, **options: Any
) -> None:
    """Compute the features of images and store them in a cache.

    DATA is an image folder (CLASS/..., or train|val|test/CLASS/...); a CSV, TSV, JSON Lines or Parquet manifest with
    the columns path and label and, optionally, split and group; a tar or zip archive of a folder or of WebDataset
    samples, or a pattern such as 'shard-{000..127}.tar'; a Parquet or Arrow table that holds the images; or a file of
    arrays (npy, npz, HDF5, MNIST, CIFAR); the URL of one of these (s3://, gs://, hf://, https://); or tv:NAME or hf:NAME, a data set of torchvision or Hugging Face. Only features that the cache does not hold yet are
    computed: an interrupted run resumes from its last committed block, and of a changed data set only the new
    images are computed.

    To share the work between processes, give each a --part, or start one per GPU of a machine with torchrun
    --nproc-per-node gpu --no-python frostline extract DATA ...; then merge their files.
    """
    from frostline.pipeline.hosts.torchrun import join_launcher

    if dry_run:
        plan = pipeline.plan_extraction(data, part=part, report=output.report, **options)
        output.show(plan, _plan_text(plan))
        return
    result = pipeline.extract(data, part=part or join_launcher(), report=output.report, **options)
    output.show(result, extraction_text(result))


def extraction_text(result: "pipeline.ExtractResult") -> Text:
    """Describe an extraction: what was computed, which images are unreadable, what was found, what to do next."""
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
    yield from result.found.lines()
    if result.merge_command:
        yield f"This is part {result.part}. When all parts exist, run: {result.merge_command}"


def _plan_text(plan: "pipeline.ExtractionPlan") -> Text:
    yield from plan.found.lines()
    if plan.counts:
        splits = {split: None for row in plan.counts.values() for split in row}
        rows = [[name, *(str(row.get(split, 0)) for split in splits)] for name, row in plan.counts.items()]
        yield Table(["class", *(split or "no split" for split in splits)], rows)
    state = "exists" if plan.exists else "does not exist yet"
    yield f"Nothing was computed. The cache {plan.cache} {state}."
