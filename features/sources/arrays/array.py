"""Arrays of images as image sources."""

import contextlib
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Final

from frostline.features.errors import SourceError
from frostline.features.notes import SourceNotes
from frostline.features.sources.arrays.cifar import (
    is_cifar_archive,
    is_cifar_folder,
    open_cifar_archive,
    open_cifar_folder,
)
from frostline.features.sources.arrays.hdf5 import open_hdf5
from frostline.features.sources.arrays.idx import idx_files, is_idx, open_idx
from frostline.features.sources.arrays.numpy_files import open_npy, open_npz
from frostline.features.sources.arrays.parts import ArrayFile
from frostline.features.sources.containers.container import Member
from frostline.features.sources.containers.source import ContainedSource, contained_source
from frostline.features.sources.files import absolute, make_table
from frostline.features.sources.folders.arrangement import Arrangement
from frostline.features.sources.kinds import SourceKind
from frostline.features.sources.labels import composed

_NAMED: Final[Mapping[str, Callable[[str, str | None], ArrayFile]]] = {
    ".npz": open_npz,
    ".h5": open_hdf5,
    ".hdf5": open_hdf5,
}
"""Opener of files that hold arrays with names, by the end of the file's name in lower case."""


def open_arrays(root: str, *, label_column: str | None = None) -> ContainedSource:
    """List the images of arrays.

    The id of an image is its number in its array, after the name of the array or file if there are several.

    Args:
        root: A ``.npy``, ``.npz`` or HDF5 file; a file or a folder of files of the MNIST family; or CIFAR-10 or
            CIFAR-100, as its archive or a folder with its batches.
        label_column: Name of the array with the labels in a ``.npz`` or HDF5 file, or ``none``; see `parts.pair`.

    Raises:
        OSError: A file can't be read.
        SourceError: A file is damaged or holds something else, or labels don't fit the images.
    """
    root = absolute(root)
    suffix = _suffix(root)
    if suffix in _NAMED and not os.path.isdir(root):  # noqa: PTH112
        return _source(root, [_NAMED[suffix](root, label_column)])
    if label_column is not None:
        raise SourceError(
            f"--label-column: {root} has no named arrays; this option is for {', '.join(_NAMED)} files"
        )
    return _source(root, _open(root))


def _accepts(data: str) -> bool:
    if os.path.isdir(data):  # noqa: PTH112
        with contextlib.suppress(
            OSError
        ):  # such as a folder that may not be read, which is told where it is listed
            return is_cifar_folder(data) or bool(idx_files(data))
        return False
    known = _suffix(data) in {".npy", *_NAMED} or is_idx(data) or is_cifar_archive(data)
    return known and os.path.exists(data)  # noqa: PTH110


ARRAY = SourceKind(
    f"arrays of images (.npy, {', '.join(_NAMED)}, files of MNIST or CIFAR)",
    _accepts,
    open_arrays,
    options=("label_column",),
)


def _open(root: str) -> list[ArrayFile]:
    if os.path.isdir(root):  # noqa: PTH112
        return (
            open_cifar_folder(root) if is_cifar_folder(root) else [open_idx(path) for path in idx_files(root)]
        )
    if is_cifar_archive(root):
        return [open_cifar_archive(root)]
    return [open_idx(root) if is_idx(root) else open_npy(root)]


def _suffix(path: str) -> str:
    return PurePath(path).suffix.lower()


def _source(root: str, files: Sequence[ArrayFile]) -> ContainedSource:
    members = [Member(file, index) for file in files for index in range(len(file.names))]
    parts = [part for file in files for part in file.parts]
    labels, remarks = composed([label for part in parts for label in part.labels])
    names = [member.name for member in members]
    table, changed = make_table(
        names,
        [member.container.file_stat(member.index) for member in members],
        labels=labels,
        split=list(itertools.chain.from_iterable([part.split] * part.pixels.shape[0] for part in parts)),
        where=root,
    )
    notes = SourceNotes(remarks=(*remarks, *(remark for file in files for remark in file.remarks)))
    return contained_source(root, Arrangement(table, changed, notes), names, members)
