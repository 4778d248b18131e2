"""Exact indices of Faiss, one per layer. Vector i is line i of ``rows.csv``, counted without the heading from 0.

`faiss.write_index` takes an index that is in memory as a whole, so the file of a flat index is written here: the letters
``IxFI`` (inner product) or ``IxF2`` (squared euclidean distance), the header, and the vectors.
"""

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.pipeline.exporting.csv_file import write_rows
from frostline.pipeline.exporting.exporters import ALL_FLOAT32, Export, Exporter
from frostline.system.atomic import write_file

_UNUSED = 1 << 20  # two fields of earlier versions
_KINDS = {"cosine": (b"IxFI", 0), "euclidean": (b"IxF2", 1)}


def _write(export: Export, folder: Path) -> None:
    letters, metric = _KINDS[export.options.metric]
    count = len(export.selection)
    for layer in export.selection.layers:
        with write_file(folder / f"{export.names[layer.key]}.faiss") as file:
            header = struct.pack("<iqqq?i", layer.dim, count, _UNUSED, _UNUSED, True, metric)
            file.write(letters + header + struct.pack("<Q", count * layer.dim))
            for values in export.features(layer.key):
                file.write(_vectors(values, export.options.metric).reshape(-1).view(np.uint8).data)
    with write_file(folder / "rows.csv") as file:
        write_rows(export, file)


def _vectors(values: NDArray[Any], metric: str) -> NDArray[np.float32]:
    """Return contiguous float32 vectors, of length 1 for ``cosine``; a vector of zeros stays as it is."""
    vectors = np.ascontiguousarray(values, "<f4")
    if metric == "euclidean":
        return vectors
    lengths = np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1, keepdims=True))
    return (vectors / np.where(lengths > 0, lengths, 1)).astype("<f4")


FAISS = Exporter(
    "folder with an exact index of Faiss per layer, and rows.csv",
    _write,
    "-faiss",
    folder=True,
    holds_description=False,
    dtypes=ALL_FLOAT32,
    forbidden='/\\:*?"<>|',
    settings=("metric",),
)
