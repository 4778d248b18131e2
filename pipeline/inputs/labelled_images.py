"""Which rows and which layer of a cache a training is about."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.protocol.splits import SplitReport, assign_splits, check_splits
from frostline.features.cache import FeatureCache
from frostline.features.spec import Layer
from frostline.pipeline.errors import RunError
from frostline.splits import Split

DEFAULT_FRACTIONS = (0.6, 0.2, 0.2)


class LabelledImages(Protocol):
    """What decides splits, row for row: a cache, or a set of images without one."""

    @property
    def path(self) -> Path:
        """Where it lies, for messages."""

    @property
    def ids(self) -> NDArray[Any]:
        """(n,) str names of the images."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,) indices into the classes, -1 for unknown."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""

    @property
    def split(self) -> NDArray[np.uint8]:
        """(n,) declared splits, codes of `Split`."""

    @property
    def groups(self) -> NDArray[Any]:
        """(n,) str names of groups, empty for none."""

    @property
    def content(self) -> NDArray[np.uint8]:
        """(n, 16) digests of the images' bytes."""

    @property
    def ok(self) -> NDArray[np.bool_]:
        """(n,) whether an image could be read."""


def choose_layer(cache: FeatureCache, layer: str | None) -> Layer:
    """Find a layer of the cache by its key or name; without a name, the only one.

    Raises:
        RunError: There is no such layer, or there are several to choose from.
    """
    layers = cache.layers
    if layer is None:
        if len(layers) == 1:
            return layers[0]
        problem = "holds several layers; choose one with --layer"
    else:
        found = [each for each in layers if layer in {each.key, each.name}]
        if len(found) == 1:
            return found[0]
        problem = f"holds no layer {layer!r}" if not found else f"holds {layer!r} under several pools"
    raise RunError(f"{cache.path} {problem}: {', '.join(each.key for each in layers)}.")


def split_rows(
    images: LabelledImages, fractions: tuple[float, float, float] = DEFAULT_FRACTIONS
) -> tuple[NDArray[np.uint8], SplitReport]:
    """Divide the labelled, readable rows of a cache or another set of images into train, val and test.

    The same images and fractions always give the same split; see `classifiers.protocol.splits.assign_splits`.

    Returns:
        (n,) codes of `Split`, `Split.NONE` for all other rows; and a report on them.

    Raises:
        SplitError: No labelled row, or a class that has none to train on.
    """
    split = divide_rows(images, fractions)
    declared = bool((images.split[split != Split.NONE] != Split.NONE).any())
    return split, check_splits(
        split, images.labels, images.classes, fractions=None if declared else fractions
    )


def divide_rows(images: LabelledImages, fractions: tuple[float, float, float]) -> NDArray[np.uint8]:
    """Divide rows as `split_rows` does, whether or not there are rows to train on."""
    usable = images.ok & (images.labels >= 0)
    return assign_splits(images.split, images.content, images.groups, fractions=fractions, usable=usable)
