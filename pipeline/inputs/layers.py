"""Layers as a head reads them: one, or several side by side, of one cache or of several."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.pipeline.errors import RunError
from frostline.pipeline.inputs.joined_caches import AnyCache, JoinedCaches
from frostline.pipeline.inputs.labelled_images import choose_layer

_JOIN = "+"


def layer_choices(cache: AnyCache, layer: str | None) -> tuple[str, ...]:
    """Keys of what a head may be trained on.

    Args:
        cache: The cache, or several joined.
        layer: A layer; several joined by ``+``; ``all`` for each layer by itself and all of them side by side; None for
            the only one. Of joined caches a layer is each one's of that name, and ``2/layer`` the second's alone.

    Raises:
        RunError: There is no such layer, or several where none is named.
    """
    if layer == "all":
        keys = tuple(each.key for each in cache.layers)
        return (*keys, _JOIN.join(keys)) if len(keys) > 1 else keys
    parts = [key for part in (layer.split(_JOIN) if layer else [None]) for key in _resolve(cache, part)]
    if len(set(parts)) < len(parts):
        raise RunError(f"--layer {layer} names a layer twice.")
    return (_JOIN.join(parts),)


def _resolve(cache: AnyCache, layer: str | None) -> list[str]:
    """Keys of the layers that one name stands for."""
    if not isinstance(cache, JoinedCaches):
        return [choose_layer(cache, layer).key]
    number, slash, own = (layer or "").partition("/")
    if not slash:
        return [f"{place}/{choose_layer(each, layer).key}" for place, each in enumerate(cache.caches, 1)]
    if not number.isdecimal() or not 1 <= int(number) <= len(cache.caches):
        raise RunError(f"--layer {layer}: expected the number of a cache from 1 to {len(cache.caches)}.")
    return [f"{number}/{choose_layer(cache.caches[int(number) - 1], own).key}"]


def layer_keys(key: str) -> tuple[str, ...]:
    """The layers of a choice, in the order in which they stand side by side."""
    return tuple(key.split(_JOIN))


def layer_places(key: str) -> tuple[tuple[int, str], ...]:
    """For each layer of a choice the index of its cache, and its key there."""
    parts = [each.rpartition("/") for each in layer_keys(key)]
    return tuple((int(number or 1) - 1, own) for number, _, own in parts)


def layers_of(key: str, index: int) -> tuple[str, ...]:
    """Keys of the layers of a choice that are of one cache, by the cache's index."""
    return tuple(own for place, own in layer_places(key) if place == index)


def layer_features(cache: AnyCache, key: str) -> Any:
    """Features of a choice: the cache's own array, or one that joins rows as they are read."""
    keys = layer_keys(key)
    if len(keys) == 1:
        return cache.features(key)
    return JoinedLayers(tuple(cache.features(each) for each in keys))


class JoinedLayers:
    """Several layers side by side, (n, sum of dims); only the rows that are asked for are ever copied.

    Args:
        parts: Arrays (n, dim), or what gives rows of one, of one n.
    """

    def __init__(self, parts: tuple[Any, ...]) -> None:
        self._parts = parts
        self.shape = (parts[0].shape[0], sum(part.shape[1] for part in parts))
        self.dtype = np.result_type(*(part.dtype for part in parts))

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        """Some rows, (k, sum of dims)."""
        return np.concatenate([part[rows] for part in self._parts], axis=1, dtype=self.dtype)
