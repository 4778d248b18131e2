"""Files of vectors in every format, of the same rows."""

import io
import json

import h5py
import numpy as np
import torch
from safetensors.torch import save as save_tensors

ROWS, DIM = 40, 6
_RNG = np.random.default_rng(0)
X = _RNG.normal(size=(ROWS, DIM)).astype(np.float32)
LABELS = _RNG.integers(0, 3, ROWS)
CLASSES = ("ape", "bee", "cat")
IDS = [f"row{number:02}" for number in _RNG.permutation(ROWS)]
NAMES = [CLASSES[label] for label in LABELS]


def _bytes(write):
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def _npz(save):
    return _bytes(lambda file: save(file, vectors=X, ids=IDS, labels=LABELS, classes=CLASSES))


def _hdf5(**options):
    def write(buffer):
        with h5py.File(buffer, "w") as file:
            file.create_dataset("vectors", data=X, **options)
            file["ids"], file["labels"], file["classes"] = np.array(IDS, "S"), LABELS, np.array(CLASSES, "S")

    return _bytes(write)


def _tensors():
    ids = np.frombuffer(b"".join(name.encode() for name in IDS), np.uint8).reshape(ROWS, -1).copy()
    tensors = {
        "vectors": torch.from_numpy(X),
        "ids": torch.from_numpy(ids),
        "labels": torch.from_numpy(LABELS),
    }
    return save_tensors(tensors)


def _torch(**options):
    loaded = {
        "vectors": torch.from_numpy(X),
        "ids": IDS,
        "labels": torch.from_numpy(LABELS),
        "classes": list(CLASSES),
    }
    return _bytes(lambda file: torch.save(loaded, file, **options))


def _table(kind):
    import pyarrow as pa

    lists = (
        pa.FixedSizeListArray.from_arrays(X.reshape(-1), DIM)
        if kind != "lists"
        else [row.tolist() for row in X]
    )
    if kind == "columns":
        numbers = {f"f{column}": X[:, column] for column in reversed(range(DIM))}
        return pa.table({"id": IDS, "label": NAMES, **numbers})
    return pa.table({"id": IDS, "label": pa.array(NAMES).dictionary_encode(), "vectors": lists})


def _parquet(kind):
    from pyarrow import parquet

    return _bytes(lambda file: parquet.write_table(_table(kind), file, row_group_size=16))


def _arrow(stream):
    from pyarrow import ipc

    def write(file):
        table = _table("fixed")
        with (ipc.new_stream if stream else ipc.new_file)(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=16)

    return _bytes(write)


def _text(separator):
    lines = [separator.join(["id", "label", *(f"f{column}" for column in range(DIM))])]
    for name, label, row in zip(IDS, NAMES, X, strict=True):
        lines.append(separator.join([name, label, *map(str, row)]))
    return ("\n".join(lines) + "\n").encode()


def _json_lines():
    rows = zip(IDS, NAMES, X.astype(np.float64).tolist(), strict=True)
    return b"".join(json.dumps({"id": i, "label": c, "vectors": v}).encode() + b"\n" for i, c, v in rows)


FILES = {
    "plain.npz": lambda: _npz(np.savez),
    "packed.npz": lambda: _npz(np.savez_compressed),
    "contiguous.h5": _hdf5,
    "chunked.hdf5": lambda: _hdf5(chunks=(7, DIM), compression="gzip", shuffle=True),
    "x.safetensors": _tensors,
    "x.pt": _torch,
    "old.pth": lambda: _torch(_use_new_zipfile_serialization=False),
    "fixed.parquet": lambda: _parquet("fixed"),
    "lists.parquet": lambda: _parquet("lists"),
    "columns.parquet": lambda: _parquet("columns"),
    "file.arrow": lambda: _arrow(stream=False),
    "stream.feather": lambda: _arrow(stream=True),
    "x.csv": lambda: _text(","),
    "x.tsv": lambda: _text("\t"),
    "x.jsonl": _json_lines,
}
"""Content by name of the file; each tells ids and labels."""

NEED_PYARROW = (".parquet", ".arrow", ".feather")


def npy(array=X):
    """Content of an array of NumPy."""
    return _bytes(lambda file: np.save(file, array))
