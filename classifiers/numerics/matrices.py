"""Training rows: validation, weights, and standardised matrices on the device."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_consistent_length,
    column_or_1d,
    validate_data,
)

from frostline.classifiers.errors import HeadError
from frostline.classifiers.numerics.selected_rows import SelectedRows, release

FLOATS = (np.float32, np.float64, np.float16)
"""Number formats that heads accept without conversion. Other inputs are converted to the first one."""

ClassWeight = Literal["balanced"] | Mapping[Any, float] | None
Scale = Literal["standard", "none", "l2", "maxnorm"]
SCALES: tuple[str, ...] = get_args(Scale)

_BLOCK_BYTES = 2**24  # size of the blocks in which rows are converted and summed
_CHUNK_BYTES = 2**26  # size of the blocks in which rows are predicted
_LOGITS = {"cpu": 2**18, "cuda": 2**26}  # logits per block; on a CPU they fit into the cache


def training_rows(
    head: BaseEstimator,
    X: Any,
    y: ArrayLike,
    sample_weight: ArrayLike | None,
    class_weight: ClassWeight,
) -> tuple[Any, NDArray[Any], NDArray[np.float64]]:
    """Validate features, labels and weights as scikit-learn does, and drop rows of weight 0.

    An integer weight is equivalent to that number of copies of the row. ``balanced`` weights classes by the
    inverse of their sums of weights. `SelectedRows` are not read; the caller must have validated them.

    Args:
        head: Estimator that is fitted; its ``n_features_in_`` is set.
        X: (n, d) features.
        y: (n,) labels.
        sample_weight: (n,) non-negative weights; None for 1.
        class_weight: None, ``balanced``, or a weight per class.

    Returns:
        (n, d) features, (n,) labels and (n,) positive weights.

    Raises:
        ValueError: Values are not numbers or not finite, shapes do not match, or weights are below 0.
        HeadError: There are fewer than two classes.
    """
    if isinstance(X, SelectedRows):
        head.n_features_in_ = X.shape[1]
        features, labels = X, column_or_1d(y)
        check_consistent_length(X, labels)
    else:
        features, labels = validate_data(head, X, y, dtype=FLOATS)
    check_classification_targets(labels)
    weight = _check_sample_weight(sample_weight, labels, dtype=np.float64, ensure_non_negative=True)
    weight = _by_class(weight, labels, class_weight)
    kept = weight > 0
    if not kept.all():
        features = features.select(kept) if isinstance(features, SelectedRows) else features[kept]
        labels, weight = labels[kept], weight[kept]
    classes = np.unique(labels)
    if len(classes) < 2:
        raise HeadError(f"{type(head).__name__} needs rows of at least two classes; got {len(classes)} class")
    return features, labels, weight


def _by_class(
    sample_weight: NDArray[np.float64], labels: NDArray[Any], class_weight: ClassWeight
) -> NDArray[np.float64]:
    """Multiply row weights by class weights; rows of weight 0 do not count as members of their class."""
    kept = sample_weight > 0
    if class_weight is None or not kept.any():
        return sample_weight
    classes, codes = np.unique(labels[kept], return_inverse=True)
    factors = compute_class_weight(
        class_weight, classes=classes, y=labels[kept], sample_weight=sample_weight[kept]
    )
    if not (np.isfinite(factors) & (factors >= 0)).all():
        worst = int(np.argmin(np.where(np.isfinite(factors), factors, -np.inf)))
        raise HeadError(
            f"class_weight: got {factors[worst]:g} for class {classes[worst]}, expected a finite number of at least 0"
        )
    found = sample_weight.copy()
    found[kept] *= factors[codes]
    return found


def chunks(X: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield blocks of rows whose float32 copy takes at most 64 MiB."""
    step = max(1, _CHUNK_BYTES // (4 * X.shape[1]))
    return (X[start : start + step] for start in range(0, len(X), step))


def exact_dtype(device: torch.device) -> torch.dtype:
    """Return the number format of sums and parameters: float64, or float32 on MPS, which lacks float64."""
    return torch.float32 if device.type == "mps" else torch.float64


class Matrix(Protocol):
    """Matrix of inputs that can be read in blocks repeatedly."""

    @property
    def shape(self) -> tuple[int, int]: ...  # noqa: D102
    @property
    def dtype(self) -> torch.dtype: ...  # noqa: D102
    @property
    def device(self) -> torch.device: ...  # noqa: D102

    def blocks(self, width: int) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield blocks of rows in order, sized for products with `width` columns."""

    def sample(self, count: int) -> torch.Tensor:
        """Return (count, d) evenly spaced rows."""


@dataclass(frozen=True)
class ResidentMatrix:
    """An (n, d) matrix in the memory of the device."""

    values: torch.Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        return self.values.shape[0], self.values.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the products."""
        return self.values.dtype

    @property
    def device(self) -> torch.device:
        """Device of the products."""
        return self.values.device

    def blocks(self, width: int) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield views of blocks of rows."""
        for part in _runs(len(self.values), _block_rows(width, self.device)):
            yield part, self.values[part]

    def sample(self, count: int) -> torch.Tensor:
        """Return evenly spaced rows."""
        n = len(self.values)
        return self.values if count >= n else self.values[torch.from_numpy(_spaced(n, count)).to(self.device)]


@dataclass(frozen=True)
class StreamedMatrix:
    """A matrix that is read and standardised in blocks on every pass. Only one block is in memory.

    Attributes:
        source: (n, d) floats of any width, e.g. a memory map, or rows selected from one.
        mean: (d,) mean that is subtracted from each row.
        divisor: (d,) divisor of the centred rows.
        scale: Scaling mode, which determines whether each row is first divided by its norm.
        device: Device of the products.
        dtype: Number format of the products.
    """

    source: Any
    mean: torch.Tensor
    divisor: torch.Tensor
    scale: Scale
    device: torch.device
    dtype: torch.dtype

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        return self.source.shape[0], self.source.shape[1]

    def blocks(self, width: int) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield new copies of blocks of rows."""
        n, d = self.shape
        step = max(1, min(_block_rows(width, self.device), _BLOCK_BYTES // (4 * d)))
        for part in _runs(n, step):
            yield part, self._read(self.source[part])
            release(self.source)

    def sample(self, count: int) -> torch.Tensor:
        """Return evenly spaced rows."""
        n = self.shape[0]
        block = self._read(self.source[_spaced(n, min(count, n))])
        release(self.source)
        return block

    def _read(self, part: NDArray[Any]) -> torch.Tensor:
        block = _read(part, self.scale, self.device, self.dtype)
        return block.sub_(self.mean).div_(self.divisor)


def row_space(matrix: ResidentMatrix) -> tuple[ResidentMatrix, torch.Tensor]:
    """Express n rows in coordinates of the space that they span, for n much smaller than the number of features d.

    Penalised coefficients lie in this space, so that the solution does not change. The axes are orthonormal (from
    a QR decomposition), so that norms are preserved.

    Returns:
        The (n, n) matrix, and the (d, n) axes.
    """
    values = matrix.values.cpu() if matrix.device.type == "mps" else matrix.values  # MPS has no QR
    axes, corner = torch.linalg.qr(values.T)
    return ResidentMatrix(corner.T.contiguous().to(matrix.device)), axes.to(matrix.device)


def _block_rows(width: int, device: torch.device) -> int:
    return min(max(256, _LOGITS.get(device.type, _LOGITS["cuda"]) // width), 2**20)


def _runs(n: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def _spaced(n: int, count: int) -> NDArray[np.int64]:
    return np.linspace(0, n - 1, count).astype(np.int64)


def normalise(matrix: torch.Tensor, scale: Scale) -> torch.Tensor:
    """Divide rows of a matrix by their Euclidean norm (``l2``) or largest absolute value (``maxnorm``), in place.

    Zero rows, and rows with another scale, stay unchanged.
    """
    if scale in {"l2", "maxnorm"}:
        order = 2 if scale == "l2" else float("inf")
        norm = torch.linalg.vector_norm(matrix, order, dim=1, keepdim=True)
        matrix.div_(norm.masked_fill_(norm == 0, 1))
    return matrix


def _read(part: NDArray[Any], scale: Scale, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    own = part if part.flags.owndata else part.copy()  # the following steps work in place
    return normalise(torch.from_numpy(own).to(device, dtype), scale)


def standardise(
    X: Any,
    sample_weight: torch.Tensor,
    scale: Scale,
    device: torch.device,
    dtype: torch.dtype,
    *,
    centre: bool = False,
) -> tuple[torch.Tensor, NDArray[np.float64], NDArray[np.float64]]:
    """Copy rows to the device as one matrix, and scale them.

    The input is read once, in blocks, and is not changed.

    Args:
        X: (n, d) floats of any width, e.g. a memory map.
        sample_weight: (n,) non-negative weights, on the device.
        scale: ``standard``: weighted mean 0 and standard deviation 1; constant features are only centred. ``l2``
            and ``maxnorm``: each row is divided by its norm. ``none``: no scaling.
        device: Device of the matrix.
        dtype: Number format of the matrix.
        centre: Whether to subtract the mean for every scale.

    Returns:
        The (n, d) matrix, and the applied (d,) float64 mean and divisor (0 and 1 if none was applied).
    """
    n, d = X.shape
    matrix = torch.empty((n, d), dtype=dtype, device=device)
    sample_weight = sample_weight / sample_weight.sum()
    mean, variance = torch.zeros((2, d), dtype=sample_weight.dtype, device=device)
    for part in _blocks(n, d):
        matrix[part] = _read(X[part], scale, device, dtype)
        release(X)
        mean += _weighted_sum(matrix[part], sample_weight[part])
    if scale != "standard" and not centre:
        return matrix, np.zeros(d), np.ones(d)
    middle = mean.to(dtype)
    for part in _blocks(n, d):
        matrix[part] -= middle
        variance += _weighted_square(matrix[part], sample_weight[part])
    divisor = _divisor(variance, middle, scale)
    matrix /= divisor
    return matrix, _numpy(middle), _finite(divisor)


def stream(
    X: Any,
    sample_weight: torch.Tensor,
    scale: Scale,
    device: torch.device,
    dtype: torch.dtype,
    *,
    centre: bool = False,
) -> tuple[StreamedMatrix, NDArray[np.float64], NDArray[np.float64]]:
    """Return a scaled matrix as `standardise` does, but streamed. One pass computes the mean and the standard deviation."""
    n, d = X.shape
    sample_weight = sample_weight / sample_weight.sum()
    # A shift near the mean avoids cancellation of the squares.
    shift = _read(X[: min(n, 256)], scale, device, dtype).mean(dim=0)
    total, squares = torch.zeros((2, d), dtype=sample_weight.dtype, device=device)
    plain = StreamedMatrix(X, torch.zeros_like(shift), torch.ones_like(shift), scale, device, dtype)
    if scale == "standard" or centre:
        for part in _blocks(n, d):
            block = plain._read(X[part]).sub_(shift)  # noqa: SLF001
            total += _weighted_sum(block, sample_weight[part])
            squares += _weighted_square(block, sample_weight[part])
            release(X)
        middle = (total + shift).to(dtype)
        divisor = _divisor((squares - total.square()).clamp_min(0), middle, scale)
    else:
        middle, divisor = torch.zeros_like(shift), torch.ones_like(shift)
    matrix = StreamedMatrix(X, middle, divisor, scale, device, dtype)
    return matrix, _numpy(middle), _finite(divisor)


def _divisor(variance: torch.Tensor, mean: torch.Tensor, scale: Scale) -> torch.Tensor:
    """Return the divisor of each centred feature; it is infinite for a constant feature, which becomes zero."""
    deviation, limits = variance.sqrt(), torch.finfo(mean.dtype)
    # The deviation of a constant feature is rounding, of its values or of their mean. A feature whose deviation is
    # subnormal would have coefficients that overflow.
    constant = deviation <= (10 * limits.eps * mean.abs()).clamp_min(limits.tiny / limits.eps)
    divisor = deviation.to(mean.dtype) if scale == "standard" else torch.ones_like(mean)
    return divisor.masked_fill_(constant, torch.inf)


def _blocks(n: int, d: int) -> Iterator[slice]:
    step = max(1, _BLOCK_BYTES // (8 * d))
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def _weighted_sum(block: torch.Tensor, sample_weight: torch.Tensor) -> torch.Tensor:
    return (block.to(sample_weight.dtype) * sample_weight[:, None]).sum(dim=0)


def _weighted_square(block: torch.Tensor, sample_weight: torch.Tensor) -> torch.Tensor:
    """Return the weighted sum of the squares, in the wider number format of the weights."""
    return (block.to(sample_weight.dtype).square() * sample_weight[:, None]).sum(dim=0)


def _finite(divisor: torch.Tensor) -> NDArray[np.float64]:
    """Return the divisor for new rows, with 1 for constant features, which may vary in new rows."""
    return _numpy(torch.where(divisor.isinf(), 1, divisor))


def _numpy(tensor: torch.Tensor) -> NDArray[np.float64]:
    return tensor.cpu().to(torch.float64).numpy()
