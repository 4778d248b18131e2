"""Valid files of every kind that Frostline reads, made by its own writers: the seeds of the fuzzing."""

import io
import json
import pickle
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np
import pyarrow
import torch
from numpy.typing import NDArray
from PIL import Image
from pyarrow import ipc, parquet
from safetensors.torch import save as save_safetensors

from frostline.pipeline import evaluate, extract, train_head

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "AVIF")
MANIFEST = "path,label,split,group\na.png,x,train,g\nb.png,'-1,val,\nc.png,,test,\n"
JSON_LINES = '{"path": "a.png", "label": "x", "split": "train"}\n{"path": "b.png", "label": 3, "age": 1.5}\n'
STUDY = """
[batch]
data = ["photos", "more"]
seeds = [0, 1]
fractions = [0.6, 0.2, 0.2]
[[extract]]
backbone = "efficientnet_lite0+mobilenetv2"
layer = ["embedding", "blocks.4:avg"]
[[train-head]]
head = ["linear", "sklearn.naive_bayes:GaussianNB"]
[[train-head]]
head = "mlp"
param = { hidden = [16], lr = 0.1 }
search = "random"
trials = 3
[[finetune]]
backbone = "small:resnet18"
from-scratch = true
recipe = { epochs = 3, lr = 0.1 }
search = "grid"
values = { weight-decay = [0.1, 0.2] }
"""


def write_run(folder: Path) -> Path:
    """Write some images of three classes, a cache of them, an evaluated run on it, and a cache with side columns.

    Returns:
        The run.
    """
    rng = np.random.default_rng(0)
    for label in ("a", "b", "c"):
        for split, count in (("train", 4), ("val", 2), ("test", 2)):
            for number in range(count):
                path = folder / "data" / split / label / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(path)
    cache = folder / "cache.h5"
    network = {"backbone": "timm:test_resnet", "weights": "random:1", "image_size": 32}
    options = {"engine": "eager", "precision": "fp32", "device": "cpu"}
    extract(folder / "data", cache=cache, **network, **options)
    run = train_head(cache, "ridge", run=folder / "run").run
    evaluate(run)
    train_head(cache, "linear", run=folder / "linear")
    lines = [
        f"data/train/{label}/{number}.png,{label},{number}.5,{number}"
        for label in "ab"
        for number in range(3)
    ]
    (folder / "m.csv").write_text("\n".join(["path,label,age,camera", *lines, "data/none.png,a,,"]) + "\n")
    extract(folder / "m.csv", cache=folder / "columns.h5", max_bad=0.5, **network, **options)
    return run


def images() -> list[bytes]:
    """Return one small image of each format, and some in other modes."""
    pixels = Image.fromarray(np.random.default_rng(0).integers(0, 255, (10, 12, 3), np.uint8))
    made = []
    for image, kind in [
        *((pixels, kind) for kind in FORMATS),
        (pixels.convert("P"), "PNG"),
        (pixels.convert("CMYK"), "JPEG"),
        (pixels.convert("I;16"), "TIFF"),
        (pixels.convert("LA"), "PNG"),
    ]:
        buffer = io.BytesIO()
        image.save(buffer, kind)
        made.append(buffer.getvalue())
    return made


def tensors() -> dict[str, torch.Tensor]:
    """Return the tensors of a small network in several number formats."""
    return {
        "model.conv.weight": torch.arange(12.0).reshape(2, 1, 2, 3),
        "model.bn.running_mean": torch.zeros(2, dtype=torch.float16),
        "model.bn.num_batches_tracked": torch.tensor(3),
    }


def safetensors() -> list[bytes]:
    """Return a safetensors file."""
    return [save_safetensors(tensors())]


def checkpoints() -> list[bytes]:
    """Return torch files: a state dict, and a checkpoint around one."""
    made = []
    for content in (tensors(), {"state_dict": tensors(), "epoch": 3, "optimizer": {"state": {}}}):
        buffer = io.BytesIO()
        torch.save(content, buffer)
        made.append(buffer.getvalue())
    return made


def tables() -> list[bytes]:
    """Return a manifest in Parquet."""
    buffer = io.BytesIO()
    parquet.write_table(
        pyarrow.table({"path": ["a.png", "b.png"], "label": ["x", None], "split": ["train", "val"]}), buffer
    )
    return [buffer.getvalue()]


def _samples() -> dict[str, bytes]:
    image = images()[0]
    return {"a.png": image, "a.cls": b"3", "b.png": image, "b.json": b'{"label": "x", "group": 7}'}


def tars() -> list[bytes]:
    """Return tar archives: of folders with a link and a long name, and of samples."""
    image = images()[0]
    folders = {"s/x/a.png": image, f"s/y/{'n' * 120}.png": image, "s/y/c.txt": b"x"}
    made = []
    for files in (folders, _samples()):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
            link = tarfile.TarInfo("s/x/l.png")
            link.type, link.linkname = tarfile.SYMTYPE, "a.png"
            archive.addfile(link)
        made.append(buffer.getvalue())
    return made


def zips() -> list[bytes]:
    """Return zip archives, stored and deflated."""
    made = []
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", compression) as archive:
            for name, data in _samples().items():
                archive.writestr(name, data)
        made.append(buffer.getvalue())
    return made


def _pixels() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 255, (3, 4, 5, 3), np.uint8)


def arrays() -> list[bytes]:
    """Return a ``.npy`` file of images."""
    buffer = io.BytesIO()
    np.save(buffer, _pixels())
    return [buffer.getvalue()]


def named_arrays() -> list[bytes]:
    """Return ``.npz`` files of images and labels."""
    made = []
    for save in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(
            buffer,
            train_images=_pixels(),
            train_labels=np.arange(3),
            test_images=_pixels(),
            test_labels=["a"] * 3,
        )
        made.append(buffer.getvalue())
    return made


def hdf5_arrays() -> list[bytes]:
    """Return HDF5 files of images and labels, contiguous and in chunks."""
    made = []
    for chunks in (None, (2, 4, 5, 3)):
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            file.create_dataset("x", data=_pixels(), chunks=chunks, compression="gzip" if chunks else None)
            file["label"] = np.array([b"a", b"b", b"a"])
        made.append(buffer.getvalue())
    return made


def idx() -> list[bytes]:
    """Return a file of images in the IDX format."""
    return [b"\0\0\x08\3" + struct.pack(">3I", 3, 4, 5) + _pixels()[..., 0].tobytes()]


def cifar(folder: Path) -> list[bytes]:
    """Write the other files of CIFAR-10 into a folder, and return one with images, in Python's and in binary form."""
    folder.mkdir()
    batch = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 1]}
    for number in range(1, 6):
        (folder / f"data_batch_{number}").write_bytes(pickle.dumps(batch, 2))
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": [b"a", b"b"]}, 2))
    return [pickle.dumps(batch, protocol) for protocol in (2, 4)]


def idx_labels(folder: Path) -> list[bytes]:
    """Write a file of images in the IDX format into a folder, and return one of their labels."""
    folder.mkdir()
    (folder / "x-images-idx3-ubyte").write_bytes(idx()[0])
    return [b"\0\0\x08\1" + struct.pack(">I", 3) + bytes([0, 1, 1])]


def cifar_names(folder: Path) -> list[bytes]:
    """Write the images of CIFAR-10 into a folder, and return a file with the names of the classes."""
    (batch, _) = cifar(folder)
    (folder / "test_batch").write_bytes(batch)
    return [(folder / "batches.meta").read_bytes()]


def cifar_binary(folder: Path) -> list[bytes]:
    """Write the other files of CIFAR-100 in binary form into a folder, and return one with images."""
    folder.mkdir()
    batch = bytes(2 + 3072) + bytes([1, 1]) + bytes(3072)
    (folder / "train.bin").write_bytes(batch)
    (folder / "fine_label_names.txt").write_bytes(b"a\nb\n")
    return [batch]


def cifar_archive(folder: Path) -> list[bytes]:
    """Return an archive of CIFAR-100."""
    batch = pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"fine_labels": [0]}, 2)
    files = {"train": batch, "test": batch, "meta": pickle.dumps({b"fine_label_names": [b"a"]}, 2)}
    folder.mkdir()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"cifar-100-python/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return [packed.getvalue()]


def image_tables(kind: str) -> list[bytes]:
    """Return tables that hold images: a Parquet file, or an Arrow file and a stream."""
    cells = [{"bytes": image, "path": "x.png"} for image in images()[:3]]
    table = pyarrow.table({"image": cells, "label": [0, 1, None]})
    names = {"info": {"features": {"label": {"names": ["a", "b"]}}}}
    table = table.replace_schema_metadata({"huggingface": json.dumps(names)})
    if kind == "parquet":
        buffer = io.BytesIO()
        parquet.write_table(table, buffer, row_group_size=2)
        return [buffer.getvalue()]
    made = []
    for new in (ipc.new_file, ipc.new_stream):
        buffer = io.BytesIO()
        with new(buffer, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
        made.append(buffer.getvalue())
    return made


def _vectors() -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def _written(write: Callable[[io.BytesIO], object]) -> list[bytes]:
    buffer = io.BytesIO()
    write(buffer)
    return [buffer.getvalue()]


def _vectors_in_hdf5() -> list[bytes]:
    made = []
    for chunks in (None, (2, 3)):
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            file.create_dataset("x", data=_vectors(), chunks=chunks, compression="gzip" if chunks else None)
            file["ids"], file["label"] = np.array([b"a", b"b", b"c", b"d", b"e"]), np.arange(5)
        made.append(buffer.getvalue())
    return made


def _vectors_in_tables(kind: str) -> list[bytes]:
    lists = pyarrow.FixedSizeListArray.from_arrays(_vectors().reshape(-1), 3)
    table = pyarrow.table({"id": list("abcde"), "label": ["u", "v", None, "u", "v"], "x": lists})
    told = {"format": "frostline-vectors", "layers": [{"key": "x", "dim": 3}], "classes": ["u", "v"]}
    table = table.replace_schema_metadata({"frostline": json.dumps(told)})
    if kind == "parquet":
        return _written(lambda file: parquet.write_table(table, file, row_group_size=2))

    def write(file: io.BytesIO) -> None:
        with ipc.new_file(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)

    return _written(write)


def _rows_of_text() -> list[bytes]:
    lines = [
        f"{name},{number % 2},{','.join(map(str, row))}"
        for number, (name, row) in enumerate(zip("abcde", _vectors(), strict=True))
    ]
    return ["\n".join(["id,label,f0,f1,f2", *lines, ""]).encode()]


def _rows_of_json() -> list[bytes]:
    rows = zip("abcde", _vectors().tolist(), strict=True)
    return [b"".join(json.dumps({"id": name, "label": "u", "x": row}).encode() + b"\n" for name, row in rows)]


VECTORS: Mapping[str, tuple[str, Callable[[], list[bytes]]]] = {
    "npy": ("x.npy", lambda: _written(lambda file: np.save(file, _vectors()))),
    "npz": (
        "x.npz",
        lambda: _written(lambda file: np.savez_compressed(file, x=_vectors(), ids=list("abcde"))),
    ),
    "HDF5": ("x.h5", _vectors_in_hdf5),
    "safetensors": (
        "x.safetensors",
        lambda: [save_safetensors({"x": torch.from_numpy(_vectors()).bfloat16(), "labels": torch.arange(5)})],
    ),
    "torch": (
        "x.pt",
        lambda: _written(
            lambda file: torch.save({"x": torch.from_numpy(_vectors()), "ids": list("abcde")}, file)
        ),
    ),
    "Parquet": ("x.parquet", lambda: _vectors_in_tables("parquet")),
    "Arrow": ("x.arrow", lambda: _vectors_in_tables("arrow")),
    "CSV": ("x.csv", _rows_of_text),
    "JSON Lines": ("x.jsonl", _rows_of_json),
}
"""Name of a file, and function that returns valid ones, by format of vectors."""


def _beside(name: str, write: Callable[[io.BytesIO], object]) -> tuple[str, Callable[[], list[bytes]]]:
    return name, lambda: _written(write)


BESIDE: Mapping[str, tuple[str, Callable[[], list[bytes]]]] = {
    "text": _beside("y.txt", lambda file: file.write(b"a\nb\na\nb\na\n")),
    "CSV": _beside("y.csv", lambda file: file.write(b"label,id\n3,a\n1,b\n3,c\n1,d\n3,e\n")),
    "npy": _beside("y.npy", lambda file: np.save(file, np.arange(5) % 2)),
}
"""The same for files with the labels of vectors."""


def copy_run(run: Path, folder: Path) -> Path:
    """Copy a run without its checksums, which would refuse every change before it is read."""
    shutil.copytree(run, folder / run.name)
    (folder / run.name / "SHA256SUMS").unlink(missing_ok=True)
    return folder / run.name
