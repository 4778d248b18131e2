"""Layout of a cache file: its datasets and their positions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import xxhash
from numpy.typing import NDArray

from frostline.features.cache.file.part import PartOf
from frostline.features.content import CONTENT_BYTES
from frostline.features.fidelity import Check
from frostline.features.notes import NO_NOTES, SourceNotes
from frostline.features.spec import FeatureSpec
from frostline.features.table import ImageTable

Array = NDArray[Any]

FORMAT = b"frostline-cache"
FILE_VERSION = 3
"""Version of the file layout. Version 1 has no checksums of the datasets of `MEASURED`, which its early files lack.
Version 3 has side columns; a file without them is still written as version 2, for earlier readers."""

BLOCK_ROWS = 256
ERROR_BYTES = 128

TABLE = ("ids", "labels", "split", "groups", "classes")
"""Datasets that are known before the first image is read, without side columns. One digest covers all of them."""

METADATA = ("content", "stat", "status", "errors")
"""Datasets that are written with a row's features. One checksum per block covers them and those of `MEASURED`."""

COLUMN_NAMES = "column_names"
"""Dataset with the names of the side columns. Column i is in the dataset ``columns/i``. The table's digest covers both."""

MEASURED = ("seconds", "joules")
"""Datasets with the time and energy per row. Files of version 1 have no checksum of them, and early ones lack them."""

_STORED = {"float32": "<f4", "float16": "<f2", "bfloat16": "<u2"}


@dataclass(frozen=True)
class Extent:
    """Position of a contiguous dataset in the file.

    Attributes:
        offset: Offset of the first byte.
        shape: Shape of the dataset. The first axis is rows, blocks or names.
        dtype: Little-endian number, or UTF-8 byte string padded with zeros.
    """

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def stride(self) -> int:
        """Bytes between consecutive entries of the first axis."""
        return self.dtype.itemsize * math.prod(self.shape[1:])

    @property
    def nbytes(self) -> int:
        """Total number of bytes."""
        return self.stride * self.shape[0]


@dataclass(frozen=True)
class Origin:
    """Origin of the features of a cache file. The cache key does not depend on it.

    Attributes:
        source: Folder or manifest of the images.
        created: Creation time of the file in nanoseconds since 1970, not later than the first read of an image.
        weights: Weights that the user chose for the backbone; empty for its own.
        weights_note: How the weights were read and what was assumed; empty for nothing to say.
        check: Comparison of the engine's features with the reference's; None if they were not compared.
        machine: Description of the machine that created the file; empty if unknown.
        notes: How the images were listed, and which entries were skipped.
    """

    source: str
    created: int
    weights: str = ""
    weights_note: str = ""
    check: Check | None = None
    machine: str = ""
    notes: SourceNotes = NO_NOTES


@dataclass(frozen=True, eq=False)
class Layout:
    """Header of a cache file, known without reading a row.

    Attributes:
        version: Version of the file layout.
        spec: Specification of the features.
        origin: Origin of the features.
        block_rows: Rows per block. Each block has its own checksums.
        table_digest: `table_digest` of the images that the file was laid out for.
        part: Part that the file holds; None for a whole cache.
        extents: Extents of all datasets by name.
        size: Size of the file in bytes.
    """

    version: int
    spec: FeatureSpec
    origin: Origin
    block_rows: int
    table_digest: str
    part: PartOf | None
    extents: Mapping[str, Extent]
    size: int

    @property
    def rows(self) -> int:
        """Number of images in the file."""
        return self.extents["ids"].shape[0]

    @property
    def table(self) -> tuple[str, ...]:
        """Names of the datasets of the table, in the order of its digest."""
        count = self.extents[COLUMN_NAMES].shape[0] if COLUMN_NAMES in self.extents else 0
        return (*TABLE, *side_names(count))

    @property
    def blocks(self) -> int:
        """Number of blocks in the file."""
        return self.extents["blocks"].shape[0]

    @property
    def columns(self) -> tuple[tuple[str, ...], ...]:
        """Datasets of each column of ``/blocks``: one column per layer, then one for the metadata."""
        metadata = METADATA if self.version == 1 else (*METADATA, *MEASURED)
        return (*((feature_name(layer.key),) for layer in self.spec.layers), metadata)


def as_bytes(array: Array) -> memoryview:
    """Return the bytes of a C-contiguous array without a copy."""
    return array.reshape(-1).view(np.uint8).data


def feature_name(key: str) -> str:
    """Return the name of the dataset that holds a layer's features."""
    return f"features/{key}"


def side_names(count: int) -> tuple[str, ...]:
    """Return the names of the datasets of side columns; empty for none."""
    return (COLUMN_NAMES, *(f"columns/{index}" for index in range(count))) if count else ()


def stored_dtype(spec: FeatureSpec) -> np.dtype[Any]:
    """Return the dtype of the stored features. bfloat16, which HDF5 and NumPy lack, is stored as uint16 bits."""
    return np.dtype(_STORED[spec.dtype])


def block_count(rows: int, block_rows: int) -> int:
    """Return the number of blocks for `rows` rows. The last block may be shorter."""
    return -(-rows // block_rows)


def row_schema(
    spec: FeatureSpec, rows: int, block_rows: int
) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Return shape and dtype of every dataset that is written while rows are computed, by name."""
    features = {
        feature_name(layer.key): ((rows, spec.views, layer.dim), stored_dtype(spec)) for layer in spec.layers
    }
    return features | {
        "content": ((rows, CONTENT_BYTES), np.dtype("u1")),
        "stat": ((rows, 2), np.dtype("<i8")),
        "status": ((rows,), np.dtype("u1")),
        "errors": ((rows,), text_dtype(ERROR_BYTES)),
        **{name: ((rows,), np.dtype("<f4")) for name in MEASURED},
        "blocks": ((block_count(rows, block_rows), len(spec.layers) + 1), np.dtype("<u8")),
    }


def stored_stamps(stamps: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return stamps as stored since the first file version: two int64 per row, a file's size and time."""
    return np.ascontiguousarray(stamps).view("<i8")


def text_dtype(length: int) -> np.dtype[Any]:
    """Return the dtype of UTF-8 byte strings of a fixed length, with HDF5's string type."""
    return h5py.string_dtype("utf-8", length)  # type: ignore[no-any-return]


def table_arrays(table: ImageTable) -> dict[str, Array]:
    """Return the arrays of a table as stored: little-endian, with byte strings as wide as the longest one."""
    arrays = {
        "ids": _narrow(table.ids),
        "labels": np.ascontiguousarray(table.labels, "<i8"),
        "split": np.ascontiguousarray(table.split, "u1"),
        "groups": _narrow(table.groups),
        "classes": _narrow(_encoded(table.classes)),
    }
    values = [
        np.ascontiguousarray(column.values, "<f8") if column.is_numeric else _narrow(column.values)
        for column in table.columns
    ]
    names = [_narrow(_encoded([column.name for column in table.columns]))] if values else []
    return arrays | dict(zip(side_names(len(values)), [*names, *values], strict=True))


def _encoded(names: Sequence[str]) -> Array:
    return np.array([name.encode() for name in names], "S")


def _narrow(strings: Array) -> Array:
    longest = int(np.strings.str_len(strings).max(initial=1))
    return np.ascontiguousarray(strings, f"S{longest}")


def table_digest(arrays: Mapping[str, Array]) -> str:
    """Return the digest of a table's stored arrays. Equal digests mean that the whole tables are equal."""
    digest = xxhash.xxh3_128()
    for name, array in arrays.items():
        digest.update(f"{name}:{array.dtype.str}:{array.shape};".encode())
        digest.update(as_bytes(array))
    return digest.hexdigest()
