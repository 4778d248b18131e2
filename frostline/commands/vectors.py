"""Commands that hand vectors to other programs: ``cache export``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from frostline import pipeline
from frostline.commands.interface.options import PATH, example, options_of, output_options
from frostline.commands.interface.output import Output, Text
from frostline.pipeline.options.vectors.exporting import ExportOptions
from frostline.wording import count_of

if TYPE_CHECKING:
    from frostline.pipeline import ExportResult


@click.command(
    epilog=example(
        "frostline cache export photos.h5 --to parquet",
        "frostline cache export photos.h5 --to faiss --metric euclidean --layer embedding --out index/",
    )
)
@click.argument("cache", type=PATH)
@options_of(ExportOptions)
@output_options
def export(*, output: Output, cache: Path, **options: Any) -> None:
    """Write the vectors of a cache in the format of another program.

    Each row has its number in the cache, the name of the image, its label, declared split, group and the digest of
    the file. The specification, the cache key, the version of Frostline and the source are in the metadata of the
    file, or in a JSON file. Rows without features are left out. docs/vectors.md says how each format is read.
    """
    result = pipeline.export_cache(cache, report=output.report, **options)
    output.show(result, _text(result))


def _text(result: "ExportResult") -> Text:
    layers = ", ".join(f"{layer.key} ({layer.dim})" for layer in result.layers)
    yield f"{result.path}: {count_of(result.rows, 'row')}, {result.bytes:,} bytes; {layers}; {result.dtype}"
    if result.failed:
        yield f"left out, without features: {count_of(result.failed, 'row')}"
    if result.description:
        yield f"provenance: {result.description}"
