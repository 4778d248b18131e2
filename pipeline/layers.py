"""Layers of a cache as a head reads them: one, or several side by side."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.cache import FeatureCache
from pipeline.errors import RunError
from pipeline.training_rows import choose_layer

__all__ = ["JoinedLayers", "layer_choices", "layer_features", "layer_keys"]

_JOIN = "+"


def layer_choices(cache: FeatureCache, layer: str | None) -> tuple[str, ...]:
    """Keys of what a head may be trained on.

    Args:
        cache: The cache.
        layer: A layer; several joined by ``+``; ``all`` for each layer by itself and all of them side by side; None for
            the only one.

    Raises:
        RunError: There is no such layer, or several where none is named.
    """
    if layer == "all":
        keys = tuple(each.key for each in cache.layers)
        return (*keys, _JOIN.join(keys)) if len(keys) > 1 else keys
    if layer is None:
        return (choose_layer(cache, None).key,)
    parts = [choose_layer(cache, part).key for part in layer.split(_JOIN)]
    if len(set(parts)) < len(parts):
        raise RunError(f"--layer {layer} names a layer twice.")
    return (_JOIN.join(parts),)


def layer_keys(key: str) -> tuple[str, ...]:
    """The layers of a choice, in the order in which they stand side by side."""
    return tuple(key.split(_JOIN))


def layer_features(cache: FeatureCache, key: str) -> Any:
    """Features of a choice: the cache's own array, or one that joins rows as they are read."""
    keys = layer_keys(key)
    if len(keys) == 1:
        return cache.features(key)
    return JoinedLayers(tuple(cache.features(each) for each in keys))


class JoinedLayers:
    """Several layers side by side, (n, sum of dims); only the rows that are asked for are ever copied.

    Args:
        parts: Arrays (n, dim), of one n.
    """

    def __init__(self, parts: tuple[NDArray[Any], ...]) -> None:
        self._parts = parts
        self.shape = (len(parts[0]), sum(part.shape[1] for part in parts))
        self.dtype = np.result_type(*parts)

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        """Some rows, (k, sum of dims)."""
        return np.concatenate([part[rows] for part in self._parts], axis=1, dtype=self.dtype)
