"""LanceDB: a folder that is a database, with one table ``vectors``."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frostline.features.cache.arrow_rows import COLUMNS
from frostline.pipeline.errors import ExportError
from frostline.pipeline.exporting.arrow_files import record_batches
from frostline.pipeline.exporting.exporters import Export, Exporter
from frostline.system.files import named, sync

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLE = "vectors"


def _write(export: Export, folder: Path) -> None:
    import lancedb
    import pyarrow as pa

    schema, batches = record_batches(export)
    failures: list[BaseException] = []

    def watched() -> "Iterator[Any]":
        try:
            yield from batches
        except BaseException as error:
            failures.append(error)
            raise

    try:
        lancedb.connect(folder).create_table(TABLE, pa.RecordBatchReader.from_batches(schema, watched()))
    except Exception as error:
        for failure in failures:  # which LanceDB turns into an error of its own
            raise failure from None
        raise ExportError(f"{folder.parent}: LanceDB can't write the table: {error}") from error
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place) / name
            with path.open("rb") as file, named(path):
                sync(file.fileno())


LANCEDB = Exporter(
    f"database of LanceDB with the table {TABLE!r}",
    _write,
    "-lancedb",
    folder=True,
    taken=COLUMNS,
    forbidden=".",  # which separates fields of structs
)
