"""Comparison of an engine's features with those of the reference engine, on the user's own images."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from frostline.files.documents import convert, parse_json, with_current_names

EARLIER_CHECK_NAMES = {"passed_over": "rejected"}
"""Fields of checks that earlier versions wrote under another name."""


@dataclass(frozen=True)
class LayerCheck:
    """Comparison of one layer's features with those of the reference.

    Attributes:
        min_cosine: Smallest cosine similarity between an image's two feature vectors.
        mean_cosine: Mean cosine similarity over the images.
        relative_error: Largest norm of the difference, relative to the norm of the reference vector.
    """

    min_cosine: float
    mean_cosine: float
    relative_error: float


@dataclass(frozen=True)
class Check:
    """Comparison of an engine with the reference, eager fp32.

    Attributes:
        images: Number of images compared.
        layers: Comparison of each layer, by layer key.
        rejected: Faster engines that were not chosen, each with the reason.
    """

    images: int
    layers: Mapping[str, LayerCheck] = field(hash=False)
    rejected: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, found: Mapping[str, NDArray[np.float32]], reference: Mapping[str, NDArray[np.float32]]
    ) -> Self:
        """Compare two sets of features.

        A vector that isn't finite gets cosine 0 and relative error 1.

        Args:
            found: Features of the engine by layer key, each (n, dim) float32.
            reference: Features of the reference by layer key, each (n, dim) float32.
        """
        layers = {key: _compared(found[key], expected) for key, expected in reference.items()}
        return cls(max((len(vectors) for vectors in reference.values()), default=0), layers)

    @property
    def min_cosine(self) -> float:
        """Smallest cosine similarity over all layers."""
        return min(layer.min_cosine for layer in self.layers.values())

    @property
    def mean_cosine(self) -> float:
        """Mean cosine similarity of the worst layer."""
        return min(layer.mean_cosine for layer in self.layers.values())

    @property
    def relative_error(self) -> float:
        """Largest relative error over all layers."""
        return max(layer.relative_error for layer in self.layers.values())

    def __str__(self) -> str:
        return (
            f"cosine to eager fp32 on {self.images} of the images: minimum {self.min_cosine:.6f}, "
            f"mean {self.mean_cosine:.6f}; largest relative error {self.relative_error:.1e}"
        )

    def to_json(self) -> str:
        """Return the JSON text that a cache stores."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Parse the text that `to_json` returns.

        Raises:
            ValueError: The text is not such a JSON document.
        """
        document = parse_json(text)
        if isinstance(document, dict):
            document = with_current_names(document, EARLIER_CHECK_NAMES)
        return convert(document, cls)


def _compared(found: NDArray[np.float32], expected: NDArray[np.float32]) -> LayerCheck:
    a, b = found.astype(np.float64), expected.astype(np.float64)
    norms = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        cosines = np.einsum("nd,nd->n", a, b) / (norms[0] * norms[1])
        errors = np.linalg.norm(a - b, axis=1) / norms[1]
    same = (found == expected).all(axis=1)  # zero vectors have no direction, but may be equal
    cosines = np.where(same, 1.0, np.nan_to_num(cosines, nan=0.0))
    errors = np.where(same, 0.0, np.nan_to_num(errors, nan=1.0, posinf=1.0))
    return LayerCheck(float(cosines.min()), float(cosines.mean()), float(errors.max()))
