"""Parquet and Arrow IPC files, with the description in the metadata of the schema."""

from typing import TYPE_CHECKING, Any, BinaryIO

from frostline.features.cache.arrow_rows import COLUMNS, ArrowRows
from frostline.pipeline.exporting.exporters import Export, Exporter

if TYPE_CHECKING:
    from collections.abc import Iterator


def record_batches(export: Export) -> "tuple[Any, Iterator[Any]]":
    """Return the schema and the record batches of an export."""
    rows = ArrowRows(export.selection, export.names, export.description, export.columns)
    return rows.schema, (rows.batch(block) for block in export.blocks())


def _write_parquet(export: Export, file: BinaryIO) -> None:
    from pyarrow import parquet

    schema, batches = record_batches(export)
    texts = ["label", "split", "group"]
    with parquet.ParquetWriter(
        file,
        schema,
        compression="zstd",
        use_dictionary=texts,  # vectors and ids have no equal values
        write_statistics=list(COLUMNS),
    ) as writer:
        for batch in batches:
            writer.write_batch(batch)


def _write_arrow(export: Export, file: BinaryIO) -> None:
    import pyarrow as pa

    schema, batches = record_batches(export)
    with pa.ipc.new_file(file, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


PARQUET = Exporter("Parquet table", _write_parquet, ".parquet", taken=COLUMNS)
ARROW = Exporter("Arrow IPC file, also known as Feather", _write_arrow, ".arrow", taken=COLUMNS)
