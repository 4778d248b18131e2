"""The group ``cache`` with ``info``, ``check`` and ``merge``; ``verify``, and ``label-errors``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from frostline import pipeline
from frostline.commands.interface.group import LazyCommands
from frostline.commands.interface.options import (
    PATH,
    example,
    options_of,
    output_options,
)
from frostline.commands.interface.output import Output, Table, Text, listed, plain
from frostline.escapes import visible
from frostline.pipeline.options.inspection import CheckOptions, LabelErrorOptions

if TYPE_CHECKING:
    from frostline.features.cache import CacheInfo

_file_argument = click.argument("file", type=PATH)


@click.group(
    commands=LazyCommands(
        {
            "check": "cache:check",
            "export": "vectors:export",
            "import": "imports:import_",
            "info": "cache:info",
            "merge": "cache:merge",
            "verify": "cache:verify",
        }
    )
)
def cache() -> None:
    """Inspect a feature cache, check it, merge its parts, and exchange vectors with other programs."""


@click.command(epilog=example("frostline cache info photos.h5"))
@_file_argument
@output_options
def info(*, output: Output, file: Path) -> None:
    """Show what a cache holds and what its features depend on."""
    from frostline.features.cache import FeatureCache

    found = FeatureCache.open(file).info()
    output.show(found, _info_text(found))


def _info_text(found: "CacheInfo") -> Text:
    for name, value in plain(found).items():
        yield f"{name}: {json.dumps(value) if isinstance(value, dict | list) else value}"


@click.command(
    epilog=example(
        "frostline verify runs/photos-linear photos.h5",
        "frostline verify study/",
        "frostline cache verify photos.h5   # the same command",
    )
)
@click.argument("paths", type=PATH, nargs=-1, required=True, metavar="PATH...")
@output_options
def verify(*, output: Output, paths: tuple[Path, ...]) -> None:
    """Verify every digest and checksum of runs and caches.

    A PATH is a run, a cache, or a folder that holds them, such as that of a study. All records of a run are read as
    well. Files without a digest, as earlier versions wrote them, are named. The exit code is 1 if a file was changed,
    is missing or can't be read.
    """
    found = pipeline.verify(paths, report=output.report)
    output.show(
        found,
        [visible(f"{each.state}: {each.path}{each.detail and f': {each.detail}'}") for each in found.files],
    )
    if found.wrong:
        raise click.ClickException(f"{found.wrong} of {len(found.files)} files are not as they were written.")


@click.command(epilog=example("frostline cache check photos.h5 --out report/"))
@_file_argument
@options_of(CheckOptions)
@output_options
def check(*, output: Output, file: Path, **options: Any) -> None:
    """Check the splits and labels of a cache.

    Find images and groups in more than one split, near-duplicates across splits, and equal images with different
    labels. The exit code is 1 if train-head would refuse the splits. No head is trained or evaluated.
    """
    found = pipeline.check_cache(file, report=output.report, **options)
    output.show(found, _check_text(found))
    if found.refusals:
        raise click.ClickException("\n".join(found.refusals))


def _check_text(found: "pipeline.CacheCheck") -> Text:
    yield f"{found.cache}: {listed(found.counts)}"
    for what, runs in (
        ("same bytes in several splits", found.exact),
        ("one group in several splits", found.groups),
        ("same bytes, different labels", found.conflicts),
    ):
        yield f"{what}: {len(runs) or 'none'}"
        for names in runs:
            yield f"  {', '.join(names)}"
    count = f"{'' if found.near_complete else 'more than '}{len(found.near) or 'none'}"
    yield f"near-duplicates across splits (centred cosine of {found.layer} at least {found.threshold:g}): {count}"
    if found.near:
        rows = [
            [f"{p.cosine:.3f}", p.split_a, p.image_a, p.label_a, p.split_b, p.image_b, p.label_b]
            for p in found.near
        ]
        yield Table(["cosine", "split", "image", "label", "split", "image", "label"], rows)
    for warning in found.warnings:
        yield f"Warning: {warning}"
    if found.picture:
        yield f"thumbnails: {found.picture}"


@click.command(
    epilog=example(
        "frostline extract photos/ --cache photos.h5 --part 1/2   # and --part 2/2 elsewhere",
        "frostline cache merge photos.h5.part-*-of-2",
    )
)
@click.argument("parts", type=PATH, nargs=-1, required=True, metavar="PART...")
@click.option(
    "--out", type=PATH, metavar="FILE", help="Cache to write.  [default: the common name of the parts]"
)
@click.option("--delete-parts", is_flag=True, help="Delete the parts once the cache is complete.")
@click.option(
    "--overwrite", is_flag=True, help="Replace a cache made with other settings or of another data set."
)
@output_options
def merge(*, output: Output, parts: tuple[Path, ...], **options: Any) -> None:
    """Merge the parts written by extract --part into one cache.

    The cache equals that of a single process. Every checksum is verified, and nothing is computed. All parts must
    exist and agree in their settings and in the state of the data set.
    """
    from frostline.features.cache import merge_parts

    with output.report.task("Merging", None):
        merged = merge_parts(parts, **options)
    output.show(merged.info(), [f"{merged.path}: {merged.rows} images, merged from {len(parts)} parts."])


@click.command(
    epilog=example("frostline label-errors photos.h5 --out report/   # needs frostline[label-errors]")
)
@click.argument("cache", type=PATH)
@options_of(LabelErrorOptions)
@output_options
def label_errors(*, output: Output, cache: Path, **options: Any) -> None:
    """List images whose label is probably wrong.

    The most doubtful comes first. Each image of train and val is scored by a head fitted without it and without its
    copies (confident learning). Test rows are never read.
    """
    result = pipeline.label_errors(cache, report=output.report, **options)
    output.show(result, _label_errors_text(result))


def _label_errors_text(result: "pipeline.LabelErrors") -> Text:
    rows = [[f"{each.margin:.3f}", each.image, each.given, each.suggested] for each in result.found]
    title = f"{result.cache}: {len(rows)} of {result.rows} labels are probably wrong"
    yield Table(["margin", "image", "label", "suggested"], rows, title=title)
    if result.picture:
        yield f"thumbnails: {result.picture}"
        yield f"table: {result.table}"
