"""LanceDB: a folder that is a database, with one table ``vectors``."""

import os
from pathlib import Path

from frostline.features.cache.arrow_rows import COLUMNS
from frostline.pipeline.exporting.arrow_files import record_batches
from frostline.pipeline.exporting.exporters import Export, Exporter
from frostline.system.files import sync

TABLE = "vectors"


def _write(export: Export, folder: Path) -> None:
    import lancedb
    import pyarrow as pa

    schema, batches = record_batches(export)
    lancedb.connect(folder).create_table(TABLE, pa.RecordBatchReader.from_batches(schema, batches))
    for place, _, names in os.walk(folder):
        for name in names:
            with (Path(place) / name).open("rb") as file:
                sync(file.fileno())


LANCEDB = Exporter(
    f"database of LanceDB with the table {TABLE!r}",
    _write,
    "-lancedb",
    folder=True,
    taken=COLUMNS,
    forbidden=".",  # which separates fields of structs
)
