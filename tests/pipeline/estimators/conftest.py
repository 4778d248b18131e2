"""A transformer with a small network, images for it, and a count of what goes through the network."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from frostline import ImageFeatures
from frostline.features.cache.store import store
from frostline.features.engines.eager import EagerEngine
from frostline.features.table import OK
from frostline.pipeline.estimators import computing
from tests.helpers.network import BACKBONE

OPTIONS = {**BACKBONE, "engine": "eager", "device": "cpu"}


@pytest.fixture
def make(tmp_path):
    """Return a transformer with a store of its own, and other parameters."""

    def features(**params):
        return ImageFeatures(**{**OPTIONS, "cache": tmp_path / "store", **params})

    return features


@pytest.fixture
def forwarded(monkeypatch):
    """The number of images that went through the engine, as a list with one number per batch."""
    counts, run = [], EagerEngine.run

    def counted(self, batches):
        for batch, outputs in run(self, batches):
            counts.append(int((batch.status == OK).sum()))
            yield batch, outputs

    monkeypatch.setattr(EagerEngine, "run", counted)
    return counts


@pytest.fixture(scope="session")
def digit_arrays():
    """60 images of three kinds of digits, (60, 8, 8) uint8, and their labels."""
    digits = load_digits(n_class=3)
    return (digits.images[:60] * 15).astype(np.uint8), digits.target[:60]


@pytest.fixture
def digit_paths(digit_arrays, tmp_path):
    """The same images as PNG files, and their labels."""
    from PIL import Image

    images, labels = digit_arrays
    folder = tmp_path / "images"
    folder.mkdir()
    paths = [str(folder / f"{number}.png") for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    return paths, labels


@pytest.fixture
def new_process(monkeypatch):
    """Forget what this process has loaded, opened and checked, as a new process would not know it; also when called."""

    def forget():
        monkeypatch.setattr(store, "_opened", {})
        monkeypatch.setattr(computing, "_decided", {})
        monkeypatch.setattr(computing, "_loaded", {})

    forget()
    return forget
