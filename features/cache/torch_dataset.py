"""A cache as a data set of PyTorch."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from frostline.features.cache.selection import Selection
from frostline.features.errors import LayerError


class FeatureDataset(Dataset[tuple[torch.Tensor, int]]):
    """Map-style data set of the feature vectors of one layer and their labels.

    An item is a (dim,) tensor, in the number format of the cache, and the label, which is -1 for an image without one.
    Only the rows of a batch are read from the file. The data set can be sent to worker processes, which open the file
    themselves.

    Args:
        selection: Rows, and one layer.

    Attributes:
        rows: (n,) int64 row of each item in the cache.
        labels: (n,) int64 label of each item, -1 for unknown.
        classes: Names of the classes, indexed by the labels.
    """

    def __init__(self, selection: Selection) -> None:
        if len(selection.keys) != 1:
            raise LayerError(
                f"{selection.cache.path}: has several layers; choose one of {', '.join(selection.keys)}"
            )
        self._cache, self._key, self._view = selection.cache, selection.keys[0], selection.view
        self.rows = selection.rows
        self.labels = selection.cache.labels[selection.rows]
        self.classes = selection.cache.classes

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Return the features and the label of an item."""
        return self._features[int(self.rows[index])].clone(), int(self.labels[index])

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[torch.Tensor, int]]:
        """Return several items, which are read from the file together."""
        chosen = np.asarray(indices, np.int64)
        features = self._features[torch.from_numpy(self.rows[chosen])]
        return list(zip(features.unbind(), self.labels[chosen].tolist(), strict=True))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_features"}

    @cached_property
    def _features(self) -> torch.Tensor:
        """Features of all rows of the cache, memory-mapped."""
        return self._cache.features(self._key, view=self._view, as_torch=True)
