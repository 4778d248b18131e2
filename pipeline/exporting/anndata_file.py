"""AnnData: rows are observations, the first layer is ``X``, and further layers are in ``obsm``.

The file is written as https://anndata.readthedocs.io/en/stable/fileformat-prose.html describes it.
"""

import io
from typing import TYPE_CHECKING, Any, BinaryIO

import h5py
import numpy as np

from frostline.features.cache.arrow_rows import COLUMNS, METADATA_KEY
from frostline.pipeline.exporting.exporters import KEPT, Export, Exporter
from frostline.splits import SPLIT_NAMES
from frostline.system.files import write_all

if TYPE_CHECKING:
    from typing_extensions import Buffer

_TEXT = h5py.string_dtype("utf-8")


class _Target(io.FileIO):
    """File that HDF5 writes through. It keeps the first error of the disk, and ignores what is written after it.

    h5py calls it from C, where an exception leads to others, of which the last would be raised in place of that error.
    """

    error: OSError | None = None

    def write(self, data: "Buffer") -> int:
        """Write all bytes at the position."""
        view = memoryview(data)
        if self.error is None:
            try:
                write_all(self.fileno(), view, self.tell())
            except OSError as error:
                self.error = error
        self.seek(view.nbytes, io.SEEK_CUR)
        return view.nbytes

    def truncate(self, size: int | None = None) -> int:
        """Set the size of the file."""
        if self.error is None:
            try:
                return super().truncate(size)
            except OSError as error:
                self.error = error
        return size or 0

    def check(self) -> None:
        """Raise the error of the disk, if there was one."""
        if self.error:
            raise self.error from None


def _write(export: Export, file: BinaryIO) -> None:
    target = _Target(file.fileno(), "r+", closefd=False)
    try:
        with h5py.File(target, "w") as root:
            _fill(root, export, target)
    finally:
        target.check()


def _fill(root: h5py.File, export: Export, target: _Target) -> None:
    selection, cache = export.selection, export.selection.cache
    count = len(selection)
    _mark(root, "anndata", "0.1.0")
    first, *others = selection.layers
    dtype = KEPT[cache.spec.dtype]
    for name in ("uns", "obsm", "varm", "obsp", "varp", "layers"):
        _mark(root.create_group(name), "dict", "0.1.0")
    _mark(root["uns"].create_dataset(METADATA_KEY, data=export.description, dtype=_TEXT), "string", "0.2.0")
    places = {first.key: "X"} | {layer.key: f"obsm/{export.names[layer.key]}" for layer in others}
    features = {
        layer.key: root.create_dataset(places[layer.key], (count, layer.dim), dtype)
        for layer in selection.layers
    }
    for each in features.values():
        _mark(each, "array", "0.2.0")
    side = export.columns
    known = [name for name in COLUMNS if name != "id"]
    obs = _frame(root, "obs", "id", [*known, *side.values()])
    columns = {name: _texts(obs, name, count) for name in ("id", "group", "content")}
    columns |= {name: obs.create_dataset(name, (count,), "i8") for name in ("row", "label_code")}
    for name in ("row", "label_code"):
        _mark(obs[name], "array", "0.2.0")
    columns["label"] = _categories(obs, "label", count, cache.classes)
    columns["split"] = _categories(obs, "split", count, SPLIT_NAMES[1:])
    for each in selection.columns:
        name = side[each.name]
        columns[name] = (
            obs.create_dataset(name, (count,), "f8") if each.is_numeric else _texts(obs, name, count)
        )
        if each.is_numeric:
            _mark(columns[name], "array", "0.2.0")
    var = _frame(root, "var", "dimension", [])
    _texts(var, "dimension", first.dim)[:] = [str(number) for number in range(first.dim)]
    start = 0
    for block in export.blocks():
        place = slice(start, start + len(block.rows))
        values: dict[str, Any] = {
            "row": block.rows,
            "id": block.ids.tolist(),
            "label": block.labels,
            "label_code": block.labels,
            "split": block.split.astype(np.int32) - 1,
            "group": block.groups.tolist(),
            "content": block.digests(),
            **{side[name]: cells.tolist() for name, cells in block.columns.items()},
        }
        for name, column in columns.items():
            column[place] = values[name]
        for key, each in features.items():
            each[place] = block.features[key]
        start = place.stop
        target.check()


def _mark(item: Any, kind: str, version: str) -> None:
    item.attrs["encoding-type"], item.attrs["encoding-version"] = kind, version


def _frame(root: h5py.File, name: str, index: str, columns: list[str]) -> Any:
    group = root.create_group(name)
    _mark(group, "dataframe", "0.2.0")
    group.attrs["_index"] = index
    group.attrs["column-order"] = np.array(columns, _TEXT)
    return group


def _texts(group: Any, name: str, count: int) -> Any:
    column = group.create_dataset(name, (count,), _TEXT)
    _mark(column, "string-array", "0.2.0")
    return column


def _categories(group: Any, name: str, count: int, texts: tuple[str, ...]) -> Any:
    """Create a column of categories and return its codes, -1 for none."""
    column = group.create_group(name)
    _mark(column, "categorical", "0.2.0")
    column.attrs["ordered"] = False
    _texts(column, "categories", len(texts))[:] = list(texts)
    codes = column.create_dataset("codes", (count,), "i4")
    _mark(codes, "array", "0.2.0")
    return codes


ANNDATA = Exporter(
    "AnnData: the first layer is X, others are in obsm", _write, ".h5ad", taken=COLUMNS, forbidden="/"
)
