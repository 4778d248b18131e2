"""Valid files of every kind that Frostline reads, made by its own writers: the seeds of the fuzzing."""

import io
import shutil
from pathlib import Path

import numpy as np
import pyarrow
import torch
from PIL import Image
from pyarrow import parquet
from safetensors.torch import save as save_safetensors

from frostline.pipeline import evaluate, extract, train_head

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "AVIF")
MANIFEST = "path,label,split,group\na.png,x,train,g\nb.png,'-1,val,\nc.png,,test,\n"
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
    """Write twelve images of three classes, their cache, and an evaluated run on it; return the run."""
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


def copy_run(run: Path, folder: Path) -> Path:
    """Copy a run without its checksums, which would refuse every change before it is read."""
    shutil.copytree(run, folder / run.name)
    (folder / run.name / "SHA256SUMS").unlink(missing_ok=True)
    return folder / run.name
