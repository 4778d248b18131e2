"""Small real image files for tests."""

import io
from pathlib import Path

import numpy as np
from PIL import Image


def photo(width, height, seed=0):
    """RGB image with smooth shapes and fine texture, as a photo has; no two seeds alike."""
    rng = np.random.default_rng(seed)
    shapes = Image.fromarray(rng.integers(0, 256, (5, 7, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    texture = rng.integers(-20, 21, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(shapes) + texture, 0, 255).astype(np.uint8))


def encode(image, kind="PNG", **options):
    """Bytes of the image's file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write_image(path, *, seed=0, size=(12, 10)):
    """Write a photo in the format of the path's extension, making the folders it lies in."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    photo(*size, seed=seed).save(path)
    return path


def write_folder(root, names):
    """Write a different photo under each of the relative names; returns the root."""
    for seed, name in enumerate(names):
        write_image(root / name, seed=seed)
    return root
