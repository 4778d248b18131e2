"""Shards of WebDataset: for each row a vector, its label as a number, and all else as JSON."""

import io
import itertools
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from frostline.pipeline.exporting.csv_file import TEXT_COLUMNS, text_rows
from frostline.pipeline.exporting.exporters import Export, Exporter
from frostline.system.atomic import write_file

if TYPE_CHECKING:
    from frostline.features.cache.selection import Block

_Sample = dict[str, bytes]


def _write(export: Export, folder: Path) -> None:
    samples = enumerate(_samples(export))
    for number in itertools.count():
        shard = itertools.islice(samples, export.options.shard_rows)
        first = next(shard, None)
        if first is None:
            return
        with write_file(folder / f"vectors-{number:06d}.tar") as file:
            _write_shard(file, itertools.chain([first], shard))


def _write_shard(file: BinaryIO, samples: "Iterator[tuple[int, _Sample]]") -> None:
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for number, sample in samples:
            for suffix, data in sample.items():
                member = tarfile.TarInfo(f"{number:09d}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
            archive.getmembers().clear()  # which would hold every member until the end


def _samples(export: Export) -> Iterator[_Sample]:
    selection, names = export.selection, export.names
    single = len(names) == 1
    for block in export.blocks():
        for index, values in enumerate(text_rows(selection, block)):
            known = dict(zip(TEXT_COLUMNS, values, strict=True))
            sample = {
                ("npy" if single else f"{names[key]}.npy"): _array(block, key, index)
                for key in selection.keys
            }
            sample["json"] = json.dumps(
                {name: None if value == "" else value for name, value in known.items()}
            ).encode()
            if known["label_code"] != -1:
                sample["cls"] = str(known["label_code"]).encode()
            yield sample


def _array(block: "Block", key: str, index: int) -> bytes:
    data = io.BytesIO()
    np.lib.format.write_array(data, block.features[key][index], version=(1, 0))
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
