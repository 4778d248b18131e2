"""What a cache file holds, and where."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import xxhash
from numpy.typing import NDArray

from frostline.features.cache.file.part import PartOf
from frostline.features.content import CONTENT_BYTES
from frostline.features.fidelity import Check
from frostline.features.spec import FeatureSpec
from frostline.features.table import ImageTable

Array = NDArray[Any]

FORMAT = b"frostline-cache"
BLOCK_ROWS = 256
ERROR_BYTES = 128

TABLE = ("ids", "labels", "split", "groups", "classes")
"""Datasets that are known before the first image is read; one digest covers them."""

METADATA = ("content", "stat", "status", "errors")
"""Datasets that are written with a row's features; one checksum a block covers the four."""

MEASURED = ("seconds", "joules")
"""Datasets of what each row took: measurements that nothing depends on, under no checksum, absent from early files."""

_STORED = {"float32": "<f4", "float16": "<f2", "bfloat16": "<u2"}


@dataclass(frozen=True)
class Extent:
    """Where a contiguous dataset lies in the file.

    Attributes:
        offset: First byte.
        shape: As HDF5 has it; the first axis is rows, blocks or names.
        dtype: Little-endian, or UTF-8 byte strings padded with zeros.
    """

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def stride(self) -> int:
        """Bytes from one entry of the first axis to the next."""
        return self.dtype.itemsize * math.prod(self.shape[1:])

    @property
    def nbytes(self) -> int:
        """Bytes in all."""
        return self.stride * self.shape[0]


@dataclass(frozen=True, eq=False)
class Layout:
    """A cache file's header: all that is known of it without reading a row.

    Attributes:
        spec: What its features depend on.
        source: The folder or manifest that its images came from.
        weights: What the user gave as the backbone's weights, empty for its own.
        check: How far the engine's features are from the reference's; none where they are the reference's.
        machine: What its making began on, in words; empty where that is not known.
        created: Nanoseconds since 1970 at which its making began, before any of its images was read.
        block_rows: Rows that one checksum covers.
        table_digest: `table_digest` of the images it was laid out for.
        part: Which part of what it is; None for a whole cache.
        extents: Every dataset by name.
        size: Bytes of the file.
    """

    spec: FeatureSpec
    source: str
    weights: str
    check: Check | None
    machine: str
    created: int
    block_rows: int
    table_digest: str
    part: PartOf | None
    extents: Mapping[str, Extent]
    size: int

    @property
    def rows(self) -> int:
        """Images in the file."""
        return self.extents["ids"].shape[0]

    @property
    def blocks(self) -> int:
        """Blocks in the file."""
        return self.extents["blocks"].shape[0]


def as_bytes(array: Array) -> memoryview:
    """The bytes of a C-contiguous array, in place."""
    return array.reshape(-1).view(np.uint8).data


def feature_name(key: str) -> str:
    """Name of the dataset that holds a layer's features."""
    return f"features/{key}"


def columns(spec: FeatureSpec) -> tuple[tuple[str, ...], ...]:
    """Datasets behind each column of ``/blocks``: one column per layer, then the metadata."""
    return (*((feature_name(layer.key),) for layer in spec.layers), METADATA)


def stored_dtype(spec: FeatureSpec) -> np.dtype[Any]:
    """Type of the features in the file; bfloat16, which HDF5 and numpy lack, is its bits as uint16."""
    return np.dtype(_STORED[spec.dtype])


def block_count(rows: int, block_rows: int) -> int:
    """Blocks that `rows` rows make, the last one perhaps short."""
    return -(-rows // block_rows)


def row_schema(
    spec: FeatureSpec, rows: int, block_rows: int
) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Shape and dtype of every dataset that is filled as rows are computed."""
    features = {
        feature_name(layer.key): ((rows, spec.views, layer.dim), stored_dtype(spec)) for layer in spec.layers
    }
    return features | {
        "content": ((rows, CONTENT_BYTES), np.dtype("u1")),
        "stat": ((rows, 2), np.dtype("<i8")),
        "status": ((rows,), np.dtype("u1")),
        "errors": ((rows,), text_dtype(ERROR_BYTES)),
        **{name: ((rows,), np.dtype("<f4")) for name in MEASURED},
        "blocks": ((block_count(rows, block_rows), len(columns(spec))), np.dtype("<u8")),
    }


def stored_stamps(stamps: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Stamps as the file has had them from its first version on: two integers per row, a file's size and time."""
    return np.ascontiguousarray(stamps).view("<i8")


def text_dtype(length: int) -> np.dtype[Any]:
    """UTF-8 byte strings of a fixed length, as HDF5 should name them."""
    return h5py.string_dtype("utf-8", length)  # type: ignore[no-any-return]


def table_arrays(table: ImageTable) -> dict[str, Array]:
    """A table as it is stored: little-endian, and byte strings no wider than their longest."""
    return {
        "ids": _narrow(table.ids),
        "labels": np.ascontiguousarray(table.labels, "<i8"),
        "split": np.ascontiguousarray(table.split, "u1"),
        "groups": _narrow(table.groups),
        "classes": _narrow(np.array([name.encode() for name in table.classes], "S")),
    }


def _narrow(strings: Array) -> Array:
    longest = int(np.strings.str_len(strings).max(initial=1))
    return np.ascontiguousarray(strings, f"S{longest}")


def table_digest(arrays: Mapping[str, Array]) -> str:
    """Digest of a table's stored arrays; two tables are the same images in the same roles if it is equal."""
    digest = xxhash.xxh3_128()
    for name in TABLE:
        array = arrays[name]
        digest.update(f"{name}:{array.dtype.str}:{array.shape};".encode())
        digest.update(as_bytes(array))
    return digest.hexdigest()
