"""Caches of given vectors, whose images are never read."""

import numpy as np

from frostline.features.cache import open_writer
from frostline.features.spec import FeatureSpec, Layer, Transform
from frostline.features.table import FAILED, OK, ImageSource, ImageTable


class Unread(ImageSource):
    """Images that exist by name only."""

    root = "/nowhere/images"

    def __init__(self, ids, labels, classes, split):
        n = len(ids)
        self.table = ImageTable(
            np.array([name.encode() for name in ids]), np.asarray(labels, np.int64), tuple(classes),
            np.asarray(split, np.uint8), np.zeros(n, "S1"), np.zeros((n, 16), np.uint8),
        )  # fmt: skip

    def read(self, row):
        raise OSError(f"row {row} has no image")


def write_vectors(path, layers, *, labels=None, split=None, failed=(), content=None, dtype="float32"):
    """Write a cache of the rows ``00000.jpg`` and so on, and open it.

    Args:
        path: File to write.
        layers: (n, d) vectors of the layer ``embedding``, or several layers by name.
        labels: (n,) classes by number; None for unlabelled images.
        split: (n,) codes; None for no split.
        failed: Rows of unreadable images.
        content: (n,) numbers of the images' contents; None for all different.
        dtype: Number format of the file.
    """
    layers = layers if isinstance(layers, dict) else {"embedding": layers}
    n = len(next(iter(layers.values())))
    labels = np.full(n, -1) if labels is None else np.asarray(labels)
    spec = FeatureSpec(
        backbone="test:none",
        weights_sha256="0" * 64,
        transform=Transform(36, "shortest", (32, 32), "bicubic", (0.5,) * 3, (0.25,) * 3),
        layers=tuple(Layer(name, "none", X.shape[1]) for name, X in layers.items()),
        precision="fp32",
        dtype=dtype,
        engine="none",
        device="cpu",
        decoder="none 1.0",
        versions={},
    )
    source = Unread(
        [f"{row:05d}.jpg" for row in range(n)], labels, [f"class {k}" for k in range(labels.max() + 1)],
        np.zeros(n) if split is None else split,
    )  # fmt: skip
    numbers = np.arange(n) if content is None else np.asarray(content)
    with open_writer(path, spec, source) as writer:
        rows = writer.todo
        bad = np.isin(rows, list(failed))
        writer.put(
            rows,
            {f"{layer.key}": np.asarray(X, np.float32)[rows, None] for layer, X in zip(spec.layers, layers.values(), strict=True)},
            content=np.stack([numbers[rows] + 1] * 2, axis=1).astype("<i8").view(np.uint8),
            stamps=np.zeros((len(rows), 16), np.uint8),
            status=np.where(bad, FAILED, OK).astype(np.uint8),
            errors=["no image" if each else "" for each in bad],
        )  # fmt: skip
        return writer.finish()
