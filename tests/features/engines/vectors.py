"""What an engine makes of images, and how far apart two answers are."""

import numpy as np

from frostline.features.images.batches import Batch
from frostline.features.table import OK


def batches(images, order, size):
    """As the loader gives them: one shape, the last one padded; what the padding holds must not matter."""
    for start in range(0, len(order), size):
        rows = np.asarray(order[start : start + size])
        count = len(rows)
        pixels = np.full((size, *images.shape[1:]), 255, np.uint8)
        pixels[:count] = images[rows]
        yield Batch(
            rows=rows,
            pixels=pixels,
            content=np.zeros((count, 16), np.uint8),
            stamps=np.zeros((count, 16), np.uint8),
            status=np.full(count, OK, np.uint8),
            errors=("",) * count,
        )


def vectors(engine, images, order=None):
    """Features by layer key, in the order of `images` whatever order they are computed in."""
    found = {layer.key: np.full((len(images), 1, layer.dim), np.nan, np.float32) for layer in engine.layers}
    order = list(range(len(images)) if order is None else order)
    for batch, outputs in engine.run(batches(images, order, engine.batch_size)):
        assert outputs.keys() == found.keys()
        for key, values in outputs.items():
            assert values.dtype == np.float32
            found[key][batch.rows] = values
    return found


def distances(found, expected):
    """By layer and image, the norm of the difference relative to the vector's norm."""
    assert found.keys() == expected.keys()
    norm = np.linalg.norm
    return np.stack(
        [norm(found[key] - expected[key], axis=2) / norm(expected[key], axis=2) for key in expected]
    )


def distance(found, expected):
    """The largest of the distances."""
    return float(distances(found, expected).max())
