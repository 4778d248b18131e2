"""Commands that explore the vectors of a cache: ``search``, ``dedupe`` and ``outliers``."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from frostline import pipeline
from frostline.commands.interface.options import PATH, example, format_option, options_of, output_options
from frostline.commands.interface.output import CsvTable, Output, Table, Text
from frostline.pipeline.options.vectors.search import SearchOptions


@click.command(
    epilog=example(
        "frostline search photos.h5 new.jpg -k 12 --out nearest.html",
        "frostline search photos.h5 --row cats/0017.jpg --in-split train",
    )
)
@click.argument("cache", type=PATH)
@click.argument("images", type=PATH, nargs=-1, metavar="[IMAGE|FOLDER...]")
@format_option("text", "csv", "json")
@options_of(SearchOptions)
@output_options
def search(*, output: Output, cache: Path, images: tuple[Path, ...], **options: Any) -> None:
    """Find the nearest images of CACHE for new images, or for --row.

    New images go through the backbone, transform and layer of CACHE. The search is exact. An image of the cache is not
    among its own neighbours, but its copies are. An image that cannot be read gets the reason in place of neighbours,
    and the exit code is 1.
    """
    from frostline.pipeline.exploring.search import as_rows

    result = pipeline.search(cache, images, report=output.report, **options)
    output.show(result, _csv(as_rows(result.queries)) if output.style == "csv" else _search_text(result))
    if result.unread:
        raise click.ClickException(f"{result.unread} of {len(result.queries)} images could not be read.")


def _search_text(result: "pipeline.SearchResult") -> Text:
    measure = "1 - cosine" if result.metric == "cosine" else "distance"
    for each in result.queries:
        title = f"{each.query}{f' ({each.label})' if each.label else ''}"
        if each.error is not None:
            yield f"{title}: {each.error}"
            continue
        rows = [
            [str(rank), f"{one.distance:.4f}", one.image, one.label, one.split]
            for rank, one in enumerate(each.neighbours, 1)
        ]
        yield Table(["rank", measure, "image", "label", "split"], rows, title=title)
        yield ""
    yield f"{result.cache}: {result.searched} images searched in layer {result.layer}"
    yield from _written(result)


def _written(result: Any) -> Text:
    for what in ("table", "picture", "page"):
        if path := getattr(result, what):
            yield f"{what}: {path}"


def _csv(rows: Iterable[Mapping[str, Any]]) -> Text:
    listed = list(rows)
    if listed:
        yield CsvTable(list(listed[0]), [list(row.values()) for row in listed])
