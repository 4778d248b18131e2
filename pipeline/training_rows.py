"""Which rows and which layer of a cache a training is about."""

import numpy as np
from numpy.typing import NDArray

from classifiers.splits import SplitReport, assign_splits, check_splits
from features.cache import FeatureCache
from features.spec import Layer
from pipeline.errors import RunError

__all__ = ["DEFAULT_FRACTIONS", "choose_layer", "split_rows"]

DEFAULT_FRACTIONS = (0.6, 0.2, 0.2)


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
    cache: FeatureCache, fractions: tuple[float, float, float] = DEFAULT_FRACTIONS
) -> tuple[NDArray[np.uint8], SplitReport]:
    """Divide a cache's labelled, readable rows into train (1), val (2) and test (3); the rest is 0.

    The same cache and fractions always give the same split; see `classifiers.splits.assign_splits`.

    Raises:
        SplitError: No labelled row, or a class that has none to train on.
    """
    usable = cache.ok & (cache.labels >= 0)
    split = assign_splits(cache.split, cache.content, cache.groups, fractions=fractions, usable=usable)
    declared = bool((cache.split[usable] > 0).any())
    return split, check_splits(split, cache.labels, cache.classes, fractions=None if declared else fractions)
