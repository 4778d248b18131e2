"""The command ``map``."""

from pathlib import Path
from typing import Any

import click

from frostline import pipeline
from frostline.commands.interface.options import PATH, example, format_option, options_of, output_options
from frostline.commands.interface.output import CsvTable, Output, Text
from frostline.pipeline.options.vectors.map import MapOptions


@click.command(
    name="map",
    epilog=example(
        "frostline map photos.h5 --method tsne",
        "frostline map photos.h5 --run runs/photos-linear --out mistakes.html",
    ),
)
@click.argument("cache", type=PATH, metavar="CACHE[+CACHE...]")
@format_option("text", "csv", "json")
@options_of(MapOptions)
@output_options
def map_cache(*, output: Output, cache: Path, **options: Any) -> None:
    """Draw the images of CACHE as points, on one HTML page that needs no network.

    Similar images are near each other. The page shows thumbnails, colours the points by class, split or the mistakes of
    --run, and finds images by name. --format csv and json print the coordinates.
    """
    from frostline.pipeline.exploring.maps.map_cache import as_rows

    result = pipeline.map_cache(cache, report=output.report, **options)
    if output.style == "csv":
        rows = as_rows(result.points)
        output.show(result, iter([CsvTable(list(rows[0]), [list(row.values()) for row in rows])]))
    else:
        output.show(result, _text(result))


def _text(result: "pipeline.CacheMap") -> Text:
    yield f"{result.cache}: {len(result.points):,} images in layer {result.layer}, by {result.method}"
    if result.sampled:
        yield result.sampled
    if result.predicted:
        yield f"predictions of the run: {result.predicted:,}, of which {result.mistakes:,} are mistakes"
    if result.table:
        yield f"table: {result.table}"
    if result.page:
        size = (
            f"{result.thumbnails:,} thumbnails of at most {result.thumbnail_side} pixels a side"
            if result.thumbnails
            else "no thumbnails"
        )
        yield f"page: {result.page} ({result.bytes / 2**20:.1f} MiB, {size})"
