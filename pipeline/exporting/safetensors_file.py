"""Safetensors: one tensor per layer, which keeps bfloat16, and the rows as tensors of integers and bytes."""

import json
from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from frostline.features.cache.arrow_rows import METADATA_KEY
from frostline.pipeline.errors import ExportError
from frostline.pipeline.exporting.exporters import Export, Exporter

_KINDS = {"float32": ("F32", 4), "float16": ("F16", 2), "bfloat16": ("BF16", 2)}
_MAX_HEADER = 100_000_000  # of the safetensors library
_NAMES = ("rows", "labels", "ids", "groups", "split", "content", "__metadata__")


def _write(export: Export, file: BinaryIO) -> None:
    """Write the header and then the tensors, those with the widest numbers first, as the library does."""
    selection, table = export.selection, export.selection.cache.file.table
    count = len(selection)
    number, size = _KINDS[selection.cache.spec.dtype]
    numbers = {export.columns[each.name]: each.values for each in selection.columns if each.is_numeric}
    texts = {"ids": table.ids, "groups": table.groups}
    texts |= {export.columns[each.name]: each.values for each in selection.columns if not each.is_numeric}
    widths = {name: max(1, values.dtype.itemsize) for name, values in texts.items()}
    shapes: dict[str, tuple[str, int, tuple[int, ...]]] = {
        "rows": ("I64", 8, (count,)),
        "labels": ("I64", 8, (count,)),
        **dict.fromkeys(numbers, ("F64", 8, (count,))),
        **{export.names[layer.key]: (number, size, (count, layer.dim)) for layer in selection.layers},
        **{name: ("U8", 1, (count, width)) for name, width in widths.items()},
        "split": ("U8", 1, (count,)),
        "content": ("U8", 1, (count, 16)),
    }
    header: dict[str, Any] = {"__metadata__": {METADATA_KEY: export.description}}
    end = 0
    for name, (kind, width, shape) in shapes.items():
        begin, end = end, end + width * int(np.prod(shape, dtype=np.int64))
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": (begin, end)}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > _MAX_HEADER:
        raise ExportError(
            f"the description has {len(text):,} bytes, and safetensors takes {_MAX_HEADER:,}; choose another format"
        )
    file.write(len(text).to_bytes(8, "little") + text)
    rows = export.of_layers()
    _put(file, [selection.rows])
    _put(file, (block.labels for block in rows.blocks()))
    for name, column in numbers.items():
        _put(file, rows.values(name, column))
    for key in export.names:
        for values in selection.stored(key):
            _put(file, [values])
            export.advance(len(values))
    for name, width in widths.items():
        blocks = rows.values(name, texts[name])
        _put(file, (np.strings.encode(block, "utf-8").astype(f"S{width}") for block in blocks))
    _put(file, (block.split for block in rows.blocks()))
    _put(file, (block.content for block in rows.blocks()))


def _put(file: BinaryIO, blocks: Iterable[NDArray[Any]]) -> None:
    file.writelines(np.ascontiguousarray(block).reshape(-1).view(np.uint8).data for block in blocks)


SAFETENSORS = Exporter(
    "tensors; ids and groups are UTF-8 bytes padded with zeros",
    _write,
    ".safetensors",
    dtypes={name: name for name in _KINDS},
    taken=_NAMES,
)
