"""CSV: one column per value, ``LAYER_0``, ``LAYER_1``, and so on."""

import io
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from frostline.csv_cells import CsvWriter
from frostline.features.cache.arrow_rows import COLUMNS, column_names
from frostline.pipeline.exporting.exporters import Export, Exporter
from frostline.splits import SPLITS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from frostline.features.cache.selection import Block, Selection

_NUMBER = "%.9g"  # digits that are enough to read back the same float32


def text_columns(export: Export) -> list[str]:
    """Return the names of what is known of a row beside its vectors."""
    return [*COLUMNS, *export.columns.values()]


def text_rows(selection: "Selection", block: "Block") -> "Iterator[tuple[object, ...]]":
    """Yield the values of `text_columns` for each row of a block; what is missing is an empty text."""
    names = (*selection.cache.classes, "")
    side = [
        ["" if value != value else value for value in values.tolist()]  # noqa: PLR0124  # NaN
        for values in block.columns.values()
    ]
    for row, name, label, split, group, digest, *more in zip(
        block.rows.tolist(),
        block.ids.tolist(),
        block.labels.tolist(),
        block.split.tolist(),
        block.groups.tolist(),
        block.digests(),
        *side,
        strict=True,
    ):
        yield row, name, names[label], label, SPLITS[split], group, digest, *more


def write_rows(export: Export, file: BinaryIO) -> None:
    """Write all that is known of the rows, without their vectors, as CSV."""
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = CsvWriter(text, text_columns(export))
    for block in export.of_layers().blocks():
        writer.write_all(text_rows(export.selection, block))
    text.detach()


def _write(export: Export, file: BinaryIO) -> None:
    selection = export.selection
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    layers = [f"{export.names[layer.key]}_{n}" for layer in selection.layers for n in range(layer.dim)]
    side = column_names(list(export.columns.values()), taken=(*COLUMNS, *layers), prefix="column_")
    CsvWriter(text, [*COLUMNS, *side.values(), *layers])
    cells = io.StringIO()
    writer = CsvWriter(cells, ())
    for block in export.blocks():
        values = np.concatenate(list(block.features.values()), axis=1)
        numbers = ",".join([_NUMBER] * values.shape[1]) + "\n"
        for texts, vector in zip(text_rows(selection, block), values.tolist(), strict=True):
            cells.seek(0)
            cells.truncate()
            writer.write(texts)
            text.write(cells.getvalue().removesuffix("\n") + "," + numbers % tuple(vector))
    text.detach()


CSV = Exporter(
    "CSV table, with the provenance in a JSON file beside it", _write, ".csv", holds_description=False
)
