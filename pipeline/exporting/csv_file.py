"""CSV: one column per value, ``LAYER_0``, ``LAYER_1``, and so on."""

import io
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from frostline.csv_cells import CsvWriter
from frostline.pipeline.exporting.exporters import Export, Exporter
from frostline.splits import SPLITS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from frostline.features.cache.selection import Block, Selection

TEXT_COLUMNS = ("row", "id", "label", "label_code", "split", "group", "content")
_NUMBER = "%.9g"  # digits that are enough to read back the same float32


def text_rows(selection: "Selection", block: "Block") -> "Iterator[tuple[object, ...]]":
    """Yield the values of `TEXT_COLUMNS` for each row of a block; a missing label, split or group is empty."""
    names = (*selection.cache.classes, "")
    for row, name, label, split, group, digest in zip(
        block.rows.tolist(),
        block.ids.tolist(),
        block.labels.tolist(),
        block.split.tolist(),
        block.groups.tolist(),
        block.digests(),
        strict=True,
    ):
        yield row, name, names[label], label, SPLITS[split], group, digest


def write_rows(export: Export, file: BinaryIO) -> None:
    """Write all that is known of the rows, without their vectors, as CSV."""
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = CsvWriter(text, TEXT_COLUMNS)
    for block in export.of_layers().blocks():
        writer.write_all(text_rows(export.selection, block))
    text.detach()


def _write(export: Export, file: BinaryIO) -> None:
    selection = export.selection
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    layers = [f"{export.names[layer.key]}_{n}" for layer in selection.layers for n in range(layer.dim)]
    CsvWriter(text, [*TEXT_COLUMNS, *layers])
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
