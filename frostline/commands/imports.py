"""``frostline cache import``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from frostline import pipeline
from frostline.commands.interface.options import PATH, example, options_of, output_options
from frostline.commands.interface.output import Output, Text, listed
from frostline.pipeline.options.vectors.importing import ImportOptions
from frostline.shell import shell_command
from frostline.wording import count_of

if TYPE_CHECKING:
    from frostline.pipeline import ImportResult

_SHOWN = 10


@click.command(
    "import",
    epilog=example(
        "frostline cache import clip.npy --ids names.txt --labels labels.npy --name clip-vit-b32 --out clip.h5",
        "frostline cache import features.npz --array image --labels y --name clip --declare model=ViT-B/32",
        "frostline cache import table.csv --columns 'f*' --ids path --images photos/ --name resnet",
    ),
)
@click.argument("file", type=PATH)
@options_of(ImportOptions)
@output_options
def import_(*, output: Output, file: Path, **options: Any) -> None:
    """Make a cache of vectors that were computed elsewhere.

    FILE is a .npy, .npz, .h5, .safetensors, .pt, .parquet, .arrow, .csv, .tsv or .jsonl file with one vector per row. Heads
    train on the cache as on any other. It says that its vectors were imported, and is never mixed with extracted
    features. A row without a usable vector is kept as a failed row, with the reason.

    An interrupted import is completed by the same command.
    """
    result = pipeline.import_vectors(file, report=output.report, **options)
    output.show(result, _text(result))


def _text(result: "ImportResult") -> Text:
    if result.unchanged:
        yield f"Nothing to do: {result.cache} already holds these {count_of(result.rows, 'vector')}."
    else:
        resumed = f" ({result.resumed} of them already committed)" if result.resumed else ""
        yield f"{result.cache}: {count_of(result.rows, 'vector')}{resumed}, {result.dtype}; {result.imported}"
    yield f"layers: {', '.join(f'{key} ({width})' for key, width in result.layers.items())}"
    if result.columns:
        yield f"taken: {', '.join(f'{role} from {name}' for role, name in result.columns.items())}"
    if result.side_columns:
        yield f"kept beside: {_names(result.side_columns)}"
    if result.unused:
        yield f"not used: {_names(result.unused)}"
    splits = {name or "no split": count for name, count in result.splits.items()}
    yield f"rows: {listed(splits)}; {f'classes: {len(result.classes)}' if result.classes else 'no classes'}"
    if result.failed:
        yield f"{count_of(result.failed, 'row')} without a usable vector:"
        for name, reason in [*result.errors.items()][:_SHOWN]:
            yield f"  {name}: {reason}"
    if result.classes:
        yield f"next: {shell_command('frostline', 'train-head', result.cache)}"


def _names(names: Sequence[str]) -> str:
    return f"{', '.join(names[:_SHOWN])}{' ...' if len(names) > _SHOWN else ''}"
