"""Files of vectors in every format, made by the library of each; and some rows that all of them hold."""

import csv
import io
import json

import h5py
import numpy as np
import torch
from safetensors.torch import save as save_tensors

from frostline.csv_cells import to_cell

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


def npy(vectors=X):
    """Content of an array of NumPy."""
    return _bytes(lambda file: np.save(file, vectors))


def npz(vectors, ids, labels, *, save=np.savez):
    """Content of an archive of NumPy; the labels are numbers, with the names beside them."""
    classes, codes = np.unique(labels, return_inverse=True)
    return _bytes(lambda file: save(file, vectors=vectors, ids=ids, labels=codes, classes=classes))


def hdf5(vectors, ids, labels, **options):
    """Content of a file of HDF5; the same."""
    classes, codes = np.unique(labels, return_inverse=True)

    def write(buffer):
        with h5py.File(buffer, "w") as file:
            file.create_dataset("vectors", data=vectors, **options)
            file["ids"], file["labels"] = np.array([name.encode() for name in ids]), codes
            file["classes"] = np.array([name.encode() for name in classes])

    return _bytes(write)


def _padded(texts):
    kept = np.array([text.encode() for text in texts])
    return torch.from_numpy(kept.view(np.uint8).reshape(len(texts), -1).copy())


def safetensors(vectors, ids, labels):
    """Content of a file of safetensors; texts are rows of bytes."""
    texts = {
        name: each if isinstance(each, torch.Tensor) else _padded(each)
        for name, each in {"ids": ids, "labels": labels}.items()
    }
    return save_tensors({"vectors": torch.from_numpy(vectors), **texts})


def pytorch(vectors, ids, labels, **options):
    """Content of a file of ``torch.save``."""
    classes, codes = np.unique(labels, return_inverse=True)
    loaded = {
        "vectors": torch.from_numpy(vectors),
        "ids": list(ids),
        "labels": torch.from_numpy(codes),
        "classes": classes.tolist(),
    }
    return _bytes(lambda file: torch.save(loaded, file, **options))


def _table(vectors, ids, labels, kind):
    import pyarrow as pa

    if kind == "columns":
        numbers = {f"f{column}": vectors[:, column] for column in reversed(range(vectors.shape[1]))}
        return pa.table({"id": ids, "label": labels, **numbers})
    lists = (
        [row.tolist() for row in vectors]
        if kind == "lists"
        else pa.FixedSizeListArray.from_arrays(vectors.reshape(-1), vectors.shape[1])
    )
    return pa.table({"id": ids, "label": pa.array(labels).dictionary_encode(), "vectors": lists})


def parquet(vectors, ids, labels, kind="fixed"):
    """Content of a file of Parquet with lists or one column per number."""
    from pyarrow.parquet import write_table

    return _bytes(lambda file: write_table(_table(vectors, ids, labels, kind), file, row_group_size=16))


def arrow(vectors, ids, labels, *, stream=False):
    """Content of a file or stream of Arrow."""
    from pyarrow import ipc

    def write(file):
        table = _table(vectors, ids, labels, "fixed")
        with (ipc.new_stream if stream else ipc.new_file)(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=16)

    return _bytes(write)


def text(vectors, ids, labels, *, delimiter=","):
    """Content of a table of text, as spreadsheets are given it."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=delimiter)
    writer.writerow(["id", "label", *(f"f{column}" for column in range(vectors.shape[1]))])
    for name, label, row in zip(ids, labels, vectors, strict=True):
        writer.writerow([to_cell(name), to_cell(label), *map(str, row)])
    return buffer.getvalue().encode()


def json_lines(vectors, ids, labels):
    """Content of a file of one JSON object per line; a number that is not finite is null, as JSON has none."""
    rows = zip(ids, labels, vectors.astype(np.float64).tolist(), strict=True)
    return b"".join(
        json.dumps(
            {"id": name, "label": label, "vectors": [value if abs(value) < 1e39 else None for value in row]}
        ).encode()
        + b"\n"
        for name, label, row in rows
    )


FILES = {
    "plain.npz": lambda: npz(X, IDS, NAMES),
    "packed.npz": lambda: npz(X, IDS, NAMES, save=np.savez_compressed),
    "contiguous.h5": lambda: hdf5(X, IDS, NAMES),
    "chunked.hdf5": lambda: hdf5(X, IDS, NAMES, chunks=(7, DIM), compression="gzip", shuffle=True),
    "x.safetensors": lambda: safetensors(X, IDS, torch.from_numpy(LABELS)),
    "x.pt": lambda: pytorch(X, IDS, NAMES),
    "old.pth": lambda: pytorch(X, IDS, NAMES, _use_new_zipfile_serialization=False),
    "fixed.parquet": lambda: parquet(X, IDS, NAMES),
    "lists.parquet": lambda: parquet(X, IDS, NAMES, "lists"),
    "columns.parquet": lambda: parquet(X, IDS, NAMES, "columns"),
    "file.arrow": lambda: arrow(X, IDS, NAMES),
    "stream.feather": lambda: arrow(X, IDS, NAMES, stream=True),
    "x.csv": lambda: text(X, IDS, NAMES),
    "x.tsv": lambda: text(X, IDS, NAMES, delimiter="\t"),
    "x.jsonl": lambda: json_lines(X, IDS, NAMES),
}
"""Content by name of the file; each tells ids and labels."""

NEED_PYARROW = (".parquet", ".arrow", ".feather")
