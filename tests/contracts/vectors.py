"""Images for networks, the features that an engine computes of them, and distances between features."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from frostline.features.backbones import Backbone
from frostline.features.engines import Engine, Features
from frostline.features.images.batches import Batch
from frostline.features.table import OK, STAMP_BYTES


def photos(backbone: Backbone, count: int) -> NDArray[np.uint8]:
    """Return (count, h, w, 3) uint8 pixels of different smooth images with sharp edges, of the backbone's size."""
    generator = np.random.default_rng(0)
    height, width = backbone.transform.crop
    coarse = generator.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    tile = np.ones((1, -(-height // 8), -(-width // 8), 1), np.uint8)
    return np.kron(coarse, tile)[:, :height, :width]


def batches(images: NDArray[np.uint8], order: Sequence[int], size: int, *, views: int = 1) -> Iterator[Batch]:
    """Iterate over batches like those of the loader: of one shape, with padding of 255 in the last one.

    Args:
        images: (n * views, h, w, 3) uint8 pixels, with the views of an image next to each other.
        order: Indices of images, below n.
        size: Batch size.
        views: Views per image.
    """
    grouped = images.reshape(-1, views, *images.shape[1:])
    for start in range(0, len(order), size // views):
        rows = np.asarray(order[start : start + size // views])
        count = len(rows)
        pixels = np.full((size, *images.shape[1:]), 255, np.uint8)
        pixels[: count * views] = grouped[rows].reshape(-1, *images.shape[1:])
        yield Batch(
            rows=rows,
            pixels=pixels,
            content=np.zeros((count, 16), np.uint8),
            stamps=np.zeros((count, STAMP_BYTES), np.uint8),
            status=np.full(count, OK, np.uint8),
            errors=("",) * count,
            views=views,
        )


def vectors(
    engine: Engine, images: NDArray[np.uint8], order: Sequence[int] | None = None, *, views: int = 1
) -> Features:
    """Compute features in some order, and return them in the order of the images.

    Args:
        engine: Engine that computes them.
        images: See `batches`.
        order: Order of computation; None for that of the images.
        views: Views per image.

    Returns:
        (n, views, dim) float32 features by layer key.
    """
    count = len(images) // views
    found: Features = {
        layer.key: np.full((count, views, layer.dim), np.nan, np.float32) for layer in engine.layers
    }
    order = list(range(count)) if order is None else order
    for batch, outputs in engine.run(batches(images, order, engine.batch_size, views=views)):
        assert list(outputs) == list(found)
        for key, values in outputs.items():
            assert values.dtype == np.float32
            assert values.shape == (len(batch.rows), *found[key].shape[1:])
            found[key][batch.rows] = values
    return found


def distances(found: Features, expected: Features) -> NDArray[np.float64]:
    """Return the norm of the difference relative to the norm of the expected vector, (layers, n, views)."""
    assert found.keys() == expected.keys()
    norm = np.linalg.norm
    return np.stack(
        [norm(found[key] - expected[key], axis=2) / norm(expected[key], axis=2) for key in expected]
    )


def distance(found: Features, expected: Features) -> float:
    """Return the largest of the `distances`."""
    return float(distances(found, expected).max())
