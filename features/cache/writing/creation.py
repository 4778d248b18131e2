"""Creation of a complete cache file before the first row is computed.

HDF5 lays out the file in memory, in a few hundred bytes for datasets of any size. These bytes are written to the
file after its disk space has been reserved. Thus a full disk or a killed process never interrupts HDF5's own
writer, which would crash or leave a file that can't be opened.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import h5py
import numpy as np

from frostline.features.cache.file.disk import reserve, write_at
from frostline.features.cache.file.layout import (
    BLOCK_ROWS,
    COLUMN_NAMES,
    FILE_VERSION,
    FORMAT,
    Array,
    Extent,
    Layout,
    Origin,
    row_schema,
    table_arrays,
    table_digest,
    text_dtype,
)
from frostline.features.cache.file.part import PartOf
from frostline.features.errors import LayerError
from frostline.features.notes import NO_NOTES
from frostline.features.spec import FeatureSpec
from frostline.features.table import ImageTable
from frostline.system.files import named, sync

_ALIGNMENT = 64  # bytes: a cache line, and sufficient for memory-mapping any dtype


def create(
    fd: int,
    path: Path,
    spec: FeatureSpec,
    table: ImageTable,
    origin: Origin,
    *,
    part: PartOf | None = None,
) -> Layout:
    """Lay out a cache in an empty file, reserve its disk space, and write the table of images.

    Args:
        fd: Descriptor of the empty file, open for writing.
        path: Path of the file, for error messages.
        spec: Specification of the features.
        table: Images, one per row.
        origin: Origin of the features.
        part: Part that the images form; None for a whole cache.

    Returns:
        The layout of the file.

    Raises:
        OSError: The disk space is too small. The message gives the bytes needed and free. The file is empty again.
        LayerError: A layer's name is not valid for a dataset, or two layers have the same name.
    """
    arrays = table_arrays(table)
    layout, pieces = _lay_out(spec, arrays, origin, part)
    reserve(fd, path, layout.size)
    with named(path):
        for name, array in arrays.items():
            write_at(fd, array, layout.extents[name].offset)
        text = np.frombuffer(spec.to_json().encode(), np.uint8)
        write_at(fd, text, layout.extents["spec"].offset)
        # The bytes at offset 0 make it an HDF5 file. They are written last, so that an incomplete file can't be opened.
        for offset, piece in pieces:
            if offset:
                write_at(fd, piece, offset)
        sync(fd)
        for offset, piece in pieces:
            if not offset:
                write_at(fd, piece, offset)
        sync(fd)
    return layout


def _lay_out(
    spec: FeatureSpec, arrays: Mapping[str, Array], origin: Origin, part: PartOf | None
) -> tuple[Layout, list[tuple[int, bytes]]]:
    _check_layers(spec)
    image = _Image()
    digest = table_digest(arrays)
    version = FILE_VERSION if COLUMN_NAMES in arrays else FILE_VERSION - 1
    schema = {name: (array.shape, _hdf5_dtype(array.dtype)) for name, array in arrays.items()}
    schema |= row_schema(spec, len(arrays["ids"]), BLOCK_ROWS)
    schema["spec"] = ((1,), text_dtype(len(spec.to_json())))
    with h5py.File(image, "w", libver="latest", alignment_threshold=1, alignment_interval=_ALIGNMENT) as file:
        extents = {name: _dataset(file, name, shape, dtype) for name, (shape, dtype) in schema.items()}
        for layer in file["features"].values():
            layer.attrs["dtype"] = np.bytes_(spec.dtype)
        file["spec"].attrs["digest"] = np.bytes_(spec.digest)
        file.attrs["format"] = np.bytes_(FORMAT)
        file.attrs["format_version"] = np.int64(version)
        file.attrs["block_rows"] = np.int64(BLOCK_ROWS)
        file.attrs["created"] = np.int64(origin.created)
        file.attrs["source"] = np.bytes_(origin.source.encode(errors="surrogateescape"))
        file.attrs["weights"] = np.bytes_(origin.weights.encode(errors="surrogateescape"))
        if origin.weights_note:
            file.attrs["weights_note"] = np.bytes_(origin.weights_note.encode(errors="replace"))
        if origin.machine:
            file.attrs["machine"] = np.bytes_(origin.machine.encode(errors="replace"))
        if origin.notes != NO_NOTES:
            file.attrs["notes"] = np.bytes_(origin.notes.to_json())
        if origin.check:
            file.attrs["check"] = np.bytes_(origin.check.to_json())
        file.attrs["table_digest"] = np.bytes_(digest)
        if part:
            file.attrs["part"] = np.bytes_(str(part.part))
            file.attrs["whole_digest"] = np.bytes_(part.whole)
    layout = Layout(
        version,
        spec,
        origin,
        BLOCK_ROWS,
        digest,
        part,
        MappingProxyType(extents),
        size=image.seek(0, io.SEEK_END),
    )
    return layout, image.pieces


def _check_layers(spec: FeatureSpec) -> None:
    keys = [layer.key for layer in spec.layers]
    if not keys or len(set(keys)) < len(keys):
        raise LayerError(f"a cache needs one or more layers, each once; got {', '.join(keys) or 'none'}")
    for key in keys:
        if "/" in key or key in {"", "."}:
            raise LayerError(
                f"layer {key!r} can't be stored: '/' and '.' are paths in HDF5; rename the module"
            )


def _hdf5_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return text_dtype(dtype.itemsize) if dtype.kind == "S" else dtype


def _dataset(file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Extent:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    properties.set_obj_track_times(False)  # equal inputs, equal bytes
    dataset = file.create_dataset(name, shape, dtype, dcpl=properties)
    offset = dataset.id.get_offset()
    if offset is None and dataset.size:
        raise RuntimeError(f"HDF5 {h5py.version.hdf5_version} allocated no space for dataset {name!r}")
    return Extent(offset or 0, shape, dtype)


class _Image(io.RawIOBase):
    """Sparse in-memory file that records the bytes written by HDF5 and their offsets."""

    def __init__(self) -> None:
        self.pieces: list[tuple[int, bytes]] = []
        self._end = self._position = 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._position = (
            offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._end}[whence]
        )
        return self._position

    def write(self, data: Any, /) -> int:
        piece = bytes(data)
        self.pieces.append((self._position, piece))
        self._position += len(piece)
        self._end = max(self._end, self._position)
        return len(piece)

    def readinto(self, buffer: Any, /) -> int:
        raise io.UnsupportedOperation(f"HDF5 tried to read {len(buffer)} bytes of a write-only file")

    def truncate(self, size: int | None = None, /) -> int:
        self._end = self._position if size is None else size
        return self._end
