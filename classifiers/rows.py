"""Training rows: checked, weighted, and brought to the device as one standardised matrix."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, validate_data

from classifiers.errors import HeadError

__all__ = ["FLOATS", "ClassWeight", "Scale", "chunks", "exact_dtype", "standardise", "training_rows"]

FLOATS = (np.float32, np.float64, np.float16)
"""Number formats that heads take as they come; the first stands in for all others."""

ClassWeight = Literal["balanced"] | Mapping[Any, float] | None
Scale = Literal["standard", "none"]

_BLOCK_BYTES = 2**24  # rows are converted and summed this much at a time
_CHUNK_BYTES = 2**26  # rows are predicted this much at a time


def training_rows(
    head: BaseEstimator,
    X: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None,
    class_weight: ClassWeight,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]:
    """Check features, labels and weights as scikit-learn does; drop rows of weight 0.

    Returns:
        Features (n, d), labels (n,) and positive weights (n,).

    Raises:
        ValueError: Not numbers, not finite, shapes that don't fit, or weights below 0.
        HeadError: Fewer than two classes.
    """
    rows, labels = validate_data(head, X, y, dtype=FLOATS)
    check_classification_targets(labels)
    weights = _check_sample_weight(sample_weight, rows, dtype=np.float64, ensure_non_negative=True)
    if class_weight is not None:
        weights = weights * compute_sample_weight(class_weight, labels)
    kept = weights > 0
    if not kept.all():
        rows, labels, weights = rows[kept], labels[kept], weights[kept]
    classes = np.unique(labels)
    if len(classes) < 2:
        raise HeadError(f"{type(head).__name__} needs rows of at least two classes; got {len(classes)} class")
    return rows, labels, weights


def chunks(rows: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The rows in runs whose float32 copy takes bounded memory."""
    step = max(1, _CHUNK_BYTES // (4 * rows.shape[1]))
    return (rows[start : start + step] for start in range(0, len(rows), step))


def exact_dtype(device: torch.device) -> torch.dtype:
    """Number format of sums and parameters: float64, but on MPS, which has none."""
    return torch.float32 if device.type == "mps" else torch.float64


def standardise(
    X: NDArray[Any], weights: torch.Tensor, scale: Scale, device: torch.device, dtype: torch.dtype
) -> tuple[torch.Tensor, NDArray[np.float64], NDArray[np.float64]]:
    """Rows as one matrix on the device, centred and divided by the standard deviation if so asked.

    The input is read once, in blocks; it is never changed, and shared where it can be (scale ``none``).

    Args:
        X: (n, d) floats of any width, e.g. a memory map.
        weights: (n,) non-negative, on the device.
        scale: ``standard``: to weighted mean 0 and standard deviation 1; constant features are only centred.
        device: Where the matrix goes.
        dtype: What it holds.

    Returns:
        The (n, d) matrix, and the float64 (d,) mean and divisor that were applied (0 and 1 for ``none``).
    """
    n, d = X.shape
    if scale == "none":
        shared = np.asarray(X)
        if not shared.flags.writeable:  # a tensor can't say that it is read-only
            shared = shared.copy()
        return torch.as_tensor(shared).to(device, dtype), np.zeros(d), np.ones(d)
    rows = torch.empty((n, d), dtype=dtype, device=device)
    weights = weights / weights.sum()
    mean = torch.zeros(d, dtype=weights.dtype, device=device)
    for part in _blocks(n, d):
        rows[part] = torch.as_tensor(np.array(X[part])).to(device, dtype)
        mean += _weighted_sum(rows[part], weights[part])
    centre = mean.to(dtype)
    variance = torch.zeros_like(mean)
    for part in _blocks(n, d):
        rows[part] -= centre
        variance += _weighted_sum(rows[part].square(), weights[part])
    deviation = variance.sqrt()
    # What a constant feature has left is rounding, of its stored values or of their mean.
    deviation[deviation <= 10 * torch.finfo(dtype).eps * centre.abs()] = 1
    deviation[deviation == 0] = 1
    rows /= deviation.to(dtype)
    return rows, _numpy(centre), _numpy(deviation.to(dtype))


def _blocks(n: int, d: int) -> Iterator[slice]:
    step = max(1, _BLOCK_BYTES // (8 * d))
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def _weighted_sum(rows: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return (rows.to(weights.dtype) * weights[:, None]).sum(dim=0)


def _numpy(tensor: torch.Tensor) -> NDArray[np.float64]:
    return tensor.cpu().to(torch.float64).numpy()
