"""Record batches of a cache: one row per image, with one column of vectors per layer.

pyarrow is imported when they are made.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.features.cache.selection import Block, Selection
from frostline.features.errors import LibraryError
from frostline.splits import SPLIT_NAMES, Split

COLUMNS = ("row", "id", "label", "label_code", "split", "group", "content")
"""Columns before those of the layers."""

METADATA_KEY = "frostline"
"""Key of the metadata of a table that holds `Selection.description` as JSON."""


def column_names(
    keys: Sequence[str], *, taken: Sequence[str] = COLUMNS, forbidden: str = "", prefix: str = "features_"
) -> dict[str, str]:
    """Return a different name for each layer or side column, by key.

    Args:
        keys: Keys of the layers, or names of the columns.
        taken: Names that are not available.
        forbidden: Characters that are replaced by ``_``, in addition to control characters.
        prefix: What precedes a name that is not available.
    """
    found: dict[str, str] = {}
    for key in keys:
        name = "".join("_" if char in forbidden or not char.isprintable() else char for char in key)
        while name in taken or name in found.values():
            name = f"{prefix}{name}"
        found[key] = name
    return found


def library(name: str, install: str) -> Any:
    """Import an optional library.

    Raises:
        LibraryError: It is not installed; the message has the argument `install` for pip.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise LibraryError(f"needs {name}, which is not installed: pip install '{install}'") from error


class ArrowRows:
    """Record batches of a selection.

    Args:
        selection: Rows and layers.
        names: Name of the column of each layer, by key.
        description: JSON text for the metadata of the schema; by default that of the selection.
        columns: Name of the column of each side column, by its name in the cache.

    Attributes:
        schema: ``row`` (int64), ``id`` (string), ``label`` (dictionary of strings, null for unknown), ``label_code``
            (int64, -1 for unknown), ``split`` (dictionary of strings, null for none), ``group`` (string, null for
            none), ``content`` (string of 32 hexadecimal digits), the side columns (float64 or string, null for none),
            and one fixed-size list of float32 or float16 per layer.
    """

    def __init__(
        self,
        selection: Selection,
        names: Mapping[str, str] | None = None,
        description: str | None = None,
        columns: Mapping[str, str] | None = None,
    ) -> None:
        pa = self._pa = library("pyarrow", "frostline[parquet]")
        self._selection = selection
        self._names = names or column_names(selection.keys)
        side = columns or column_names(
            [each.name for each in selection.columns],
            taken=(*COLUMNS, *self._names.values()),
            prefix="column_",
        )
        item = pa.float16() if selection.cache.spec.dtype == "float16" else pa.float32()
        texts = pa.dictionary(pa.int32(), pa.string())
        self._classes = pa.array(selection.cache.classes, pa.string())
        self._splits = pa.array(SPLIT_NAMES[1:], pa.string())
        self.schema = pa.schema(
            [
                ("row", pa.int64()),
                ("id", pa.string()),
                ("label", texts),
                ("label_code", pa.int64()),
                ("split", texts),
                ("group", pa.string()),
                ("content", pa.string()),
                *(
                    (side[each.name], pa.float64() if each.is_numeric else pa.string())
                    for each in selection.columns
                ),
                *((self._names[layer.key], pa.list_(item, layer.dim)) for layer in selection.layers),
            ],
            metadata={METADATA_KEY: description or json.dumps(selection.description())},
        )

    def batches(self, *, keep: bool = False) -> Iterator[Any]:
        """Iterate over record batches; see `Selection.blocks`."""
        for block in self._selection.blocks(keep=keep):
            yield self.batch(block)

    def batch(self, block: Block) -> Any:
        """Return the record batch of a block."""
        pa = self._pa
        groups = block.groups.tolist()
        return pa.record_batch(
            [
                pa.array(block.rows),
                pa.array(block.ids.tolist(), pa.string()),
                self._texts(block.labels, block.labels < 0, self._classes),
                pa.array(block.labels),
                self._texts(block.split.astype(np.int32) - 1, block.split == Split.NONE, self._splits),
                pa.array([group or None for group in groups], pa.string()),
                pa.array(block.digests(), pa.string()),
                *map(self._side, block.columns.values()),
                *map(self._vectors, block.features.values()),
            ],
            schema=self.schema,
        )

    def reader(self, *, keep: bool = True) -> Any:
        """Return a `pyarrow.RecordBatchReader` that reads the cache as it is consumed."""
        return self._pa.RecordBatchReader.from_batches(self.schema, self.batches(keep=keep))

    def _texts(self, codes: NDArray[Any], unknown: NDArray[np.bool_], texts: Any) -> Any:
        pa = self._pa
        return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32), mask=unknown), texts)

    def _side(self, values: NDArray[Any]) -> Any:
        pa = self._pa
        if values.dtype.kind == "f":
            return pa.array(values, mask=np.isnan(values))
        return pa.array([text or None for text in values.tolist()], pa.string())

    def _vectors(self, values: NDArray[Any]) -> Any:
        pa = self._pa
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
