"""Validation of a cache file's header before the file is used.

A cache is read by byte offset. Therefore its datasets must lie inside the file, contiguous, uncompressed and
without overlaps, and they must be exactly those of its specification.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import h5py
import numpy as np

from frostline.features.cache.file.layout import (
    COLUMN_NAMES,
    FILE_VERSION,
    FORMAT,
    MEASURED,
    TABLE,
    Extent,
    Layout,
    Origin,
    feature_name,
    row_schema,
    side_names,
    text_dtype,
)
from frostline.features.cache.file.part import Part, PartOf
from frostline.features.columns import MAX_COLUMNS
from frostline.features.errors import CacheFormatError, PartError
from frostline.features.fidelity import Check
from frostline.features.notes import NO_NOTES, SourceNotes
from frostline.features.spec import FeatureSpec

_MAX_BLOCK_ROWS = 1 << 20
_TABLE_DTYPES = {"labels": "<i8", "split": "u1"}


class NewerFormatError(CacheFormatError):
    """A cache written by a later version of Frostline."""


def read_layout(file: BinaryIO, path: Path) -> Layout:
    """Read and validate the header of a cache file.

    Args:
        file: File open for reading. It is not closed.
        path: Path of the file, for error messages.

    Raises:
        CacheFormatError: The file is not a valid cache for this version. The message gives the reason.
    """
    size = file.seek(0, 2)
    with _naming(path), h5py.File(file, "r") as root:
        version = _read_version(root)
        spec = _read_spec(root, file, size)
        return _read_layout(root, version, spec, size)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except CacheFormatError as error:
        raise type(error)(f"{path}: {error}") from None
    except (
        OSError,
        RuntimeError,
        KeyError,
        ValueError,
        TypeError,
    ) as error:  # everything that h5py raises for damaged files
        raise CacheFormatError(f"{path}: not an HDF5 file, or a damaged one ({error})") from error


def _read_version(root: h5py.File) -> int:
    if "format" not in root.attrs or _text_attribute(root, "format") != FORMAT:
        raise CacheFormatError("not a Frostline cache: the attribute 'format' is missing or different")
    version = _int_attribute(root, "format_version")
    if version > FILE_VERSION:
        raise NewerFormatError(
            f"has format version {version}, and this Frostline reads up to {FILE_VERSION}; update Frostline"
        )
    if version < 1:
        raise CacheFormatError(f"has format version {version}; expected 1 to {FILE_VERSION}")
    return version


def _read_spec(root: h5py.File, file: BinaryIO, size: int) -> FeatureSpec:
    extent = _extent(root, "spec", size)
    _expect("/spec has shape", extent.shape, (1,))
    _expect_type(root["spec"], text_dtype(extent.dtype.itemsize))
    file.seek(extent.offset)
    text = file.read(extent.nbytes).decode()
    try:
        spec = FeatureSpec.from_json(text)
    except (ValueError, RecursionError) as error:
        raise CacheFormatError(f"/spec is not a specification: {error}") from error
    _expect("/spec has digest", spec.digest, _text_attribute(root["spec"], "digest").decode())
    return spec


def _read_layout(root: h5py.File, version: int, spec: FeatureSpec, size: int) -> Layout:
    block_rows = _int_attribute(root, "block_rows")
    if not 1 <= block_rows <= _MAX_BLOCK_ROWS:
        raise CacheFormatError(f"has blocks of {block_rows} rows; expected 1 to {_MAX_BLOCK_ROWS}")
    keys = {layer.key for layer in spec.layers}
    _check_names(
        root,
        {
            *TABLE,
            *row_schema(spec, 1, 1),
            "spec",
            "features",
            *({COLUMN_NAMES, "columns"} if version > 2 else ()),
        }
        - {feature_name(k) for k in keys},
        optional=frozenset(MEASURED if version == 1 else ()),
    )
    if not isinstance(root["features"], h5py.Group):
        raise CacheFormatError("/features is not a group")
    _check_names(root["features"], keys)
    side = _read_side_names(root, size) if version > 2 else ()
    rows = _extent(root, "ids", size).shape[0]
    if not rows:
        raise CacheFormatError("holds no images")
    schema = row_schema(spec, rows, block_rows) | _table_schema(root, rows, side, size)
    for name in MEASURED:
        if name not in root:
            del schema[name]
    extents = {name: _checked(root, name, shape, dtype, size) for name, (shape, dtype) in schema.items()}
    extents["spec"] = _extent(root, "spec", size)
    _check_overlaps(extents)
    for key in keys:
        _expect(
            f"/features/{key} has dtype", _text_attribute(root["features"][key], "dtype").decode(), spec.dtype
        )
    return Layout(
        version,
        spec,
        Origin(
            source=_text_attribute(root, "source").decode(errors="surrogateescape"),
            created=_int_attribute(root, "created"),
            weights=_text_attribute(root, "weights").decode(errors="surrogateescape"),
            weights_note=_optional_text(root, "weights_note"),
            check=_read_check(root),
            machine=_optional_text(root, "machine"),
            notes=_read_notes(root),
        ),
        block_rows=block_rows,
        table_digest=_text_attribute(root, "table_digest").decode(),
        part=_read_part(root),
        extents=MappingProxyType(extents),
        size=size,
    )


def _optional_text(root: h5py.File, name: str) -> str:
    """Return a text attribute that is only read by people; empty if it is missing."""
    return _text_attribute(root, name).decode(errors="replace") if name in root.attrs else ""


def _read_part(root: h5py.File) -> PartOf | None:
    if "part" not in root.attrs:
        return None
    try:
        part = Part.parse(_text_attribute(root, "part").decode())
    except PartError as error:
        raise CacheFormatError(str(error)) from error
    return PartOf(part, _text_attribute(root, "whole_digest").decode())


def _read_check(root: h5py.File) -> Check | None:
    if "check" not in root.attrs:
        return None
    try:
        return Check.from_json(_text_attribute(root, "check"))
    except (ValueError, RecursionError) as error:
        raise CacheFormatError(f"the attribute 'check' is not a comparison of features: {error}") from error


def _read_notes(root: h5py.File) -> SourceNotes:
    if "notes" not in root.attrs:
        return NO_NOTES
    try:
        return SourceNotes.from_json(_text_attribute(root, "notes"))
    except (ValueError, RecursionError) as error:
        raise CacheFormatError(f"the attribute 'notes' is not a description of a listing: {error}") from error


def _check_names(group: h5py.Group, expected: set[str], *, optional: frozenset[str] = frozenset()) -> None:
    names = set(group)
    if names | optional != expected | optional:
        raise CacheFormatError(
            f"{group.name} has missing entries {sorted(expected - optional - names)} and unexpected entries "
            f"{sorted(names - expected)}"
        )
    for name in names:
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise CacheFormatError(
                f"{group.name} has {name!r} as a {type(link).__name__}, which may point to other files; expected a hard link"
            )


def _read_side_names(root: h5py.File, size: int) -> tuple[str, ...]:
    """Return the names of the datasets of the side columns."""
    count = _extent(root, COLUMN_NAMES, size).shape[0]
    if not 1 <= count <= MAX_COLUMNS:
        raise CacheFormatError(f"has {count} side columns; expected 1 to {MAX_COLUMNS}")
    if not isinstance(root["columns"], h5py.Group):
        raise CacheFormatError("/columns is not a group")
    _check_names(root["columns"], {str(index) for index in range(count)})
    return side_names(count)


def _table_schema(
    root: h5py.File, rows: int, side: tuple[str, ...], size: int
) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Return shapes and dtypes of the table. String lengths and the number of names are taken from the file."""
    found = {name: _extent(root, name, size) for name in (*TABLE, *side)}
    return {
        name: (
            extent.shape[:1] if name in {"classes", COLUMN_NAMES} else (rows,),
            _table_dtype(name, extent.dtype),
        )
        for name, extent in found.items()
    }


def _table_dtype(name: str, found: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype that a dataset of the table must have. A side column may hold float64 or text."""
    if name in _TABLE_DTYPES:
        return np.dtype(_TABLE_DTYPES[name])
    return (
        np.dtype("<f8") if name.startswith("columns/") and found.kind == "f" else text_dtype(found.itemsize)
    )


def _checked(root: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], size: int) -> Extent:
    extent = _extent(root, name, size)
    _expect(f"/{name} has shape", extent.shape, shape)
    _expect_type(root[name], dtype)
    return extent


def _extent(root: h5py.File, name: str, size: int) -> Extent:
    """Return the extent of a dataset, which must be one contiguous range of bytes in the file."""
    hard = isinstance(root.get(name, getlink=True), h5py.HardLink)
    dataset = root[name] if hard else None
    if not isinstance(dataset, h5py.Dataset):
        raise CacheFormatError(f"/{name} is not a dataset of this file")
    properties = dataset.id.get_create_plist()
    if properties.get_layout() != h5py.h5d.CONTIGUOUS:
        raise CacheFormatError(f"/{name} is virtual, chunked or compact; expected a contiguous dataset")
    if properties.get_external_count() or properties.get_nfilters():
        raise CacheFormatError(f"/{name} has external storage or filters; expected plain bytes in this file")
    if not dataset.shape:
        raise CacheFormatError(f"/{name} has shape {dataset.shape}; expected one axis or more")
    offset, length = dataset.id.get_offset(), math.prod(dataset.shape) * dataset.id.get_type().get_size()
    if length and (offset is None or offset % dataset.dtype.alignment or not 0 < offset <= size - length):
        raise CacheFormatError(f"/{name} should have {length} bytes at {offset}; the file has {size} bytes")
    return Extent(offset or 0, dataset.shape, dataset.dtype)


def _check_overlaps(extents: dict[str, Extent]) -> None:
    filled = sorted((extent.offset, extent.nbytes, name) for name, extent in extents.items() if extent.nbytes)
    for (start, length, name), (following, _, other) in pairwise(filled):
        if start + length > following:
            raise CacheFormatError(f"/{name} and /{other} overlap")


def _expect(what: str, got: object, expected: object) -> None:
    if got != expected:
        raise CacheFormatError(f"{what} {got}; expected {expected}")


def _expect_type(dataset: h5py.Dataset, dtype: np.dtype[Any]) -> None:
    if dataset.id.get_type() != h5py.h5t.py_create(dtype, logical=True):
        raise CacheFormatError(f"{dataset.name} has type {dataset.dtype}; expected {dtype}")


def _text_attribute(item: h5py.HLObject, name: str) -> bytes:
    kind = h5py.h5a.open(item.id, name.encode())
    if kind.shape != () or kind.dtype.kind != "S":
        raise CacheFormatError(f"{item.name} has an attribute {name!r} that is not a fixed-length string")
    return bytes(item.attrs[name])


def _int_attribute(item: h5py.HLObject, name: str) -> int:
    kind = h5py.h5a.open(item.id, name.encode())
    if kind.shape != () or kind.dtype.kind not in "iu":
        raise CacheFormatError(f"{item.name} has an attribute {name!r} that is not an integer")
    return int(item.attrs[name])
