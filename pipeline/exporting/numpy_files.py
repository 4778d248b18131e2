"""Files of NumPy: one ``.npz`` with all arrays, or a folder with one ``.npy`` per layer."""

import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from frostline.pipeline.exporting.csv_file import write_rows
from frostline.pipeline.exporting.exporters import Export, Exporter
from frostline.splits import SPLITS
from frostline.system.atomic import write_file

_NAMES = ("rows", "ids", "labels", "classes", "split", "groups", "content", "provenance")
_ON_NO_DISK = '/\\:*?"<>|'  # characters that the name of a file may not have on some systems


def _write_array(
    file: IO[bytes], dtype: DTypeLike, shape: tuple[int, ...], blocks: Iterable[NDArray[Any]]
) -> None:
    """Write an array in NumPy's format from blocks of its rows."""
    kind = np.dtype(dtype)
    header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    for block in blocks:
        file.write(np.ascontiguousarray(block, kind).reshape(-1).view(np.uint8).data)


def _write_features(export: Export, file: IO[bytes], key: str) -> None:
    (layer,) = export.of_layers(key).layers
    dtype = np.dtype(NPZ.dtypes[export.selection.cache.spec.dtype])
    _write_array(file, dtype, (len(export.selection), layer.dim), export.features(key))


def _column(export: Export, what: str, column: NDArray[Any]) -> tuple[np.dtype[Any], Iterator[NDArray[Any]]]:
    """Return the dtype of a column and its blocks; texts are as wide as the longest."""
    selection = export.of_layers()
    if column.dtype.kind != "S":
        return column.dtype, selection.values(what, column)
    longest = max(int(np.strings.str_len(block).max()) for block in selection.values(what, column))
    return np.dtype(f"<U{max(1, longest)}"), selection.values(what, column)


def _write_npz(export: Export, file: BinaryIO) -> None:
    selection, cache = export.selection, export.selection.cache
    rows, count = selection.rows, len(selection)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:

        def member(name: str) -> IO[bytes]:
            return archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True)

        def small(name: str, value: Any) -> None:
            array = np.asarray(value)
            with member(name) as out:
                _write_array(out, array.dtype, array.shape, [array])

        small("provenance", np.array(export.description))
        small("classes", np.array(cache.classes, str))
        table = cache.file.table
        columns = {"ids": table.ids, "groups": table.groups, "labels": table.labels}
        columns |= {export.columns[each.name]: each.values for each in selection.columns}
        for name, values in columns.items():
            dtype, blocks = _column(export, name, values)
            with member(name) as out:
                _write_array(out, dtype, (count,), blocks)
        with member("rows") as out:
            _write_array(out, "<i8", (count,), [rows])
        with member("split") as out:
            names = np.array(SPLITS)
            _write_array(out, names.dtype, (count,), (names[b.split] for b in export.of_layers().blocks()))
        with member("content") as out:
            _write_array(out, "u1", (count, 16), (block.content for block in export.of_layers().blocks()))
        for key, name in export.names.items():
            with member(name) as out:
                _write_features(export, out, key)


def _write_npy(export: Export, folder: Path) -> None:
    for key, name in export.names.items():
        with write_file(folder / f"{name}.npy") as file:
            _write_features(export, file, key)
    with write_file(folder / "rows.csv") as file:
        write_rows(export, file)


NPZ = Exporter("one file of NumPy with all arrays", _write_npz, ".npz", taken=_NAMES, forbidden="/\\")
NPY = Exporter(
    "folder with one .npy per layer, which can be memory-mapped, and rows.csv",
    _write_npy,
    "-npy",
    folder=True,
    holds_description=False,
    forbidden=_ON_NO_DISK,
)
