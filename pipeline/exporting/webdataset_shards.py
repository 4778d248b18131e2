"""Shards of WebDataset: for each row a vector, its label as a number, and all else as JSON."""

import io
import itertools
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import DTypeLike

from frostline.pipeline.exporting.csv_file import text_columns, text_rows
from frostline.pipeline.exporting.exporters import Export, Exporter
from frostline.system.atomic import write_file

_Sample = dict[str, bytes]
_BLOCK = 512  # bytes in a tar file
_END = bytes(2 * _BLOCK)
_NAME, _SIZE, _CHECKSUM = slice(0, 9), slice(124, 136), slice(148, 156)  # places in a header


def _write(export: Export, folder: Path) -> None:
    samples = enumerate(_samples(export))
    headers = _Headers()
    for number in itertools.count():
        shard = itertools.islice(samples, export.options.shard_rows)
        first = next(shard, None)
        if first is None:
            return
        with write_file(folder / f"vectors-{number:06d}.tar") as file:
            _write_shard(file, itertools.chain([first], shard), headers)


def _write_shard(file: BinaryIO, samples: Iterator[tuple[int, _Sample]], headers: "_Headers") -> None:
    for number, sample in samples:
        file.writelines(
            headers.of(number, suffix, len(data)) + data + bytes(-len(data) % _BLOCK)
            for suffix, data in sample.items()
        )
    file.write(_END)


class _Headers:
    """Headers of the members of a tar file, which are made from those of `tarfile` in a tenth of the time."""

    def __init__(self) -> None:
        self._blank: dict[str, bytes] = {}

    def of(self, number: int, suffix: str, size: int) -> bytes:
        """Return the header of the member ``NUMBER.SUFFIX``."""
        if suffix not in self._blank:
            self._blank[suffix] = _header(0, suffix, 0)
        blank = self._blank[suffix]
        if len(blank) > _BLOCK:  # a name that is long, or not ASCII, has further headers
            return _header(number, suffix, size)
        made = bytearray(blank)
        made[_NAME] = b"%09d" % number
        made[_SIZE] = b"%011o\0" % size
        made[_CHECKSUM] = b" " * 8
        made[_CHECKSUM] = b"%06o\0 " % sum(made)
        return bytes(made)


def _header(number: int, suffix: str, size: int) -> bytes:
    member = tarfile.TarInfo(f"{number:09d}.{suffix}")
    member.size = size
    return member.tobuf(tarfile.PAX_FORMAT)


def _samples(export: Export) -> Iterator[_Sample]:
    selection, names = export.selection, export.names
    single = len(names) == 1
    suffixes = {key: "npy" if single else f"{names[key]}.npy" for key in selection.keys}
    heads: dict[str, bytes] = {}
    columns = text_columns(export)
    for block in export.blocks():
        for index, values in enumerate(text_rows(selection, block)):
            known = dict(zip(columns, values, strict=True))
            sample = {}
            for key, features in block.features.items():
                if key not in heads:
                    heads[key] = _head_of_array(features.dtype, features.shape[1])
                sample[suffixes[key]] = heads[key] + features[index].tobytes()
            known = {name: None if value == "" else value for name, value in known.items()}
            sample["json"] = json.dumps(known).encode()
            if known["label_code"] != -1:
                sample["cls"] = str(known["label_code"]).encode()
            yield sample


def _head_of_array(dtype: DTypeLike, dim: int) -> bytes:
    """Return the begin of a file of NumPy with a vector."""
    data = io.BytesIO()
    kind = np.lib.format.dtype_to_descr(np.dtype(dtype))
    np.lib.format.write_array_header_1_0(data, {"descr": kind, "fortran_order": False, "shape": (dim,)})
    return data.getvalue()


WEBDATASET = Exporter(
    "tar files with the vectors as .npy, labels as .cls, and all else as .json",
    _write,
    "-webdataset",
    folder=True,
    holds_description=False,
    forbidden="/\\ ",
    settings=("shard_rows",),
)
