"""Layers as a head reads them: one layer, or several joined, of one cache or several."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.pipeline.errors import RunError
from frostline.pipeline.inputs.joined_caches import AnyCache, JoinedCaches
from frostline.pipeline.inputs.labelled_images import choose_layer

_JOIN = "+"


def layer_choices(cache: AnyCache, layer: str | None) -> tuple[str, ...]:
    """Return the keys of the layers, single or joined, that a head may be trained on.

    Args:
        cache: The cache, or several joined.
        layer: A layer; several joined by ``+``; ``all`` for each single layer and all of them joined; None for the
            only layer. For joined caches, a name selects that layer of each cache; ``2/layer`` is that of the
            second alone.

    Raises:
        RunError: The layer does not exist, or no layer is named and the cache holds several.
    """
    if layer == "all":
        keys = tuple(each.key for each in cache.layers)
        return (*keys, _JOIN.join(keys)) if len(keys) > 1 else keys
    parts = [key for part in (layer.split(_JOIN) if layer else [None]) for key in _resolve(cache, part)]
    if len(set(parts)) < len(parts):
        raise RunError(f"--layer {layer} names a layer twice.")
    return (_JOIN.join(parts),)


def _resolve(cache: AnyCache, layer: str | None) -> list[str]:
    """Return the keys of the layers that a name refers to."""
    if not isinstance(cache, JoinedCaches):
        return [choose_layer(cache, layer).key]
    number, slash, own = (layer or "").partition("/")
    if not slash:
        return [f"{number}/{choose_layer(each, layer).key}" for number, each in enumerate(cache.caches, 1)]
    if not number.isdecimal() or not 1 <= int(number) <= len(cache.caches):
        raise RunError(f"--layer {layer}: expected the number of a cache from 1 to {len(cache.caches)}.")
    return [f"{number}/{choose_layer(cache.caches[int(number) - 1], own).key}"]


def layer_keys(key: str) -> tuple[str, ...]:
    """Return the keys of the layers in a joined key, in order."""
    return tuple(key.split(_JOIN))


def joined_layers(key: str) -> tuple[tuple[int, str], ...]:
    """Return the index of the cache and the key within it for each layer in a joined key."""
    parts = [each.rpartition("/") for each in layer_keys(key)]
    return tuple((int(number or 1) - 1, own) for number, _, own in parts)


def layers_of(key: str, index: int) -> tuple[str, ...]:
    """Return the keys of the layers in a joined key that belong to the cache with the given index."""
    return tuple(own for cache, own in joined_layers(key) if cache == index)


def layer_features(cache: AnyCache, key: str) -> Any:
    """Return the features of a key: the cache's own array, or a `JoinedLayers` for joined layers."""
    keys = layer_keys(key)
    if len(keys) == 1:
        return cache.features(key)
    return JoinedLayers(tuple(cache.features(each) for each in keys))


class JoinedLayers:
    """Concatenation of several layers, (n, sum of dims); rows are copied on indexing.

    Args:
        parts: (n, dim) arrays, or objects that return rows of one on indexing, with the same n.
    """

    def __init__(self, parts: tuple[Any, ...]) -> None:
        self._parts = parts
        self.shape = (parts[0].shape[0], sum(part.shape[1] for part in parts))
        self.dtype = np.result_type(*(part.dtype for part in parts))

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        """Return rows as a (k, sum of dims) array."""
        return np.concatenate([part[rows] for part in self._parts], axis=1, dtype=self.dtype)
