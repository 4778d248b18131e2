"""Transferability scores: estimates of head accuracy from features and labels without training; larger is better.

The scores rank backbones on one data set. Their absolute values have little meaning.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.errors import MetricsError
from frostline.classifiers.heads.knn import KNNHead
from frostline.numerics.neighbors import MEMORY_BYTES, Metric

_BLOCK_BYTES = 2**26  # size of the blocks of float64 rows
# LogME fixed point: largest number of iterations, and relative change at convergence.
_STEPS, _CLOSE = 1000, 1e-9


def log_me(X: NDArray[Any], y: NDArray[Any]) -> float:
    """Compute the logarithm of maximum evidence, LogME (You, Liu, Wang & Long 2021).

    The indicator of each class is modelled by Bayesian linear regression on the features, without an intercept,
    with a Gaussian prior on the weights (precision alpha) and Gaussian noise (precision beta). The score is the
    log evidence per row at the best alpha and beta, averaged over the classes. Alpha and beta are computed by the
    fixed-point iteration whose convergence You et al. 2022 (Ranking and tuning pre-trained models) prove.

    Args:
        X: (n, d) floats of any width, read in blocks.
        y: (n,) labels.

    Raises:
        MetricsError: The shapes do not match, a value is not finite, or there is a single class.
    """
    labels, counts = _classes(X, y)
    axes = _principal_axes(X, labels, counts, centred=False)
    n, squares = len(labels), axes.squares[:, None]
    # Squared projection of each indicator onto each axis, and the remainder outside the span of the features.
    along = axes.sums**2 / squares
    outside = np.maximum(counts - along.sum(axis=0), 0)
    if len(axes.squares) == n:
        outside = np.zeros(len(counts))
    # The evidence depends on beta in closed form, given the ratio t = alpha / beta.
    t = np.full(len(counts), axes.squares.mean())
    # Without a maximum, the evidence is flat beyond these limits.
    low, high = axes.squares[-1] * 1e-9, axes.squares[0] * 1e9
    for _ in range(_STEPS):
        shares = squares / (t + squares)
        effective = shares.sum(axis=0)
        residual = ((1 - shares) ** 2 * along).sum(axis=0) + outside
        squared_norm = (shares**2 * along / squares).sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            following = effective / squared_norm * residual / (n - effective)
        following = np.clip(np.nan_to_num(following, nan=low, posinf=high), low, high)
        moved = np.abs(following - t) > _CLOSE * t
        t = following
        if not moved.any():
            break
    misfit = (along * t / (t + squares)).sum(axis=0) + outside
    evidence = n * np.log(n / (2 * np.pi * np.e * misfit)) / 2 + np.log(t / (t + squares)).sum(axis=0) / 2
    return float(evidence.mean() / n)


def h_score(X: NDArray[Any], y: NDArray[Any], *, shrinkage: float | None = None) -> float:
    """Compute the H-score: variance between classes relative to the variance of the features (Bao et al. 2019).

    The score is tr(cov(f)^-1 cov(E[f|y])). The covariance is shrunk towards a multiple of the identity, as
    Ibrahim, Ponomareva & Mazumder 2022 (Newer is not always better) propose, because its inverse is dominated by
    noise unless n >> d. The shrunk score is tr(((1 - a) cov(f) + a m I)^-1 (1 - a) cov(E[f|y])), where m is the
    mean variance of a feature.

    Args:
        X: (n, d) floats of any width, read in blocks.
        y: (n,) labels.
        shrinkage: The shrinkage a, in [0, 1); None for the value of Ledoit & Wolf 2004. With 0, the inverse is the
            pseudo-inverse of Bao et al.

    Raises:
        MetricsError: The shapes do not match, a value is not finite, there is a single class, or the shrinkage is
            out of range.
    """
    if shrinkage is not None and not 0 <= shrinkage < 1:
        raise MetricsError(f"shrinkage: got {shrinkage}, expected None, or a number from 0 to below 1")
    labels, counts = _classes(X, y)
    axes = _principal_axes(X, labels, counts, centred=True)
    n, d = X.shape
    variances = axes.squares / n
    mean = variances.sum() / d
    if shrinkage is None:
        shrinkage = _ledoit_wolf(variances, axes.fourth, n, d)
    if shrinkage == 1:  # the covariance of the features is pure noise
        return 0.0
    between = (axes.sums**2 / counts).sum(axis=1) / n
    return float(((1 - shrinkage) * between / ((1 - shrinkage) * variances + shrinkage * mean)).sum())


def _ledoit_wolf(variances: NDArray[np.float64], fourth: float, n: int, d: int) -> float:
    """Return the shrinkage of Ledoit & Wolf 2004, from the eigenvalues of the covariance and the sum of |x|^4."""
    mean, square = variances.sum() / d, (variances**2).sum()
    spread = square - d * mean**2
    noise = (fourth / n - square) / n
    return float(min(max(noise, 0) / spread, 1)) if spread > 0 else 1.0


def nce(source_labels: NDArray[Any], y: NDArray[Any]) -> float:
    """Compute the negative conditional entropy of the labels given the source labels (Tran, Nguyen & Hassner 2019).

    Args:
        source_labels: (n,) classes predicted by the backbone's own classifier.
        y: (n,) labels.

    Raises:
        MetricsError: The lengths differ, or the arrays are empty.
    """
    source, y = np.asarray(source_labels), np.asarray(y)
    if source.shape != y.shape or y.ndim != 1 or not y.size:
        raise MetricsError(
            f"got source labels {source.shape} and labels {y.shape}, expected both (n,), n > 0"
        )
    _, source = np.unique(source, return_inverse=True)
    _, target = np.unique(y, return_inverse=True)
    pairs, times = np.unique(np.stack([source, target]), axis=1, return_counts=True)
    given = np.bincount(source)[pairs[0]]
    return float((times * np.log(times / given)).sum() / y.size)


def leep(source_proba: NDArray[Any], y: NDArray[Any]) -> float:
    """Compute the log expected empirical prediction, LEEP (Nguyen, Hassner, Seeger & Archambeau 2020).

    The score is the mean log probability of the labels under a classifier that samples a source class from the
    probabilities of the source classifier, and then a label from the empirical distribution given that class.

    Args:
        source_proba: (n, s) probabilities of the backbone's own classifier for its s classes.
        y: (n,) labels.

    Raises:
        MetricsError: The shapes do not match, or rows are not probabilities.
    """
    proba, y = np.asarray(source_proba), np.asarray(y)
    if proba.ndim != 2 or y.shape != proba.shape[:1] or not y.size:
        raise MetricsError(
            f"got probabilities {proba.shape} and labels {y.shape}, expected (n, s) and (n,), n > 0"
        )
    sums = proba.sum(axis=1, dtype=np.float64)
    wrong = np.flatnonzero(~(np.abs(sums - 1) < 1e-2) | (proba.min(axis=1) < 0))
    if wrong.size:
        raise MetricsError(
            f"source probabilities: row {wrong[0]} (and {wrong.size - 1} more) got sum {sums[wrong[0]]:.6g} and minimum "
            f"{proba[wrong[0]].min():.6g}, expected 1 and at least 0; pass the softmax of the logits"
        )
    _, labels = np.unique(y, return_inverse=True)
    joint = np.zeros((labels.max() + 1, proba.shape[1]))
    for part in _blocks(*proba.shape):
        np.add.at(joint, labels[part], proba[part].astype(np.float64))
    share = joint.sum(axis=0)
    given = np.divide(joint, share, out=np.zeros_like(joint), where=share > 0)
    total = 0.0
    for part in _blocks(*proba.shape):
        expected = (given[labels[part]] * proba[part]).sum(axis=1) / sums[part]
        total += float(np.log(expected).sum())
    return total / y.size


def one_nn(
    X: NDArray[Any],
    y: NDArray[Any],
    *,
    metric: Metric = "cosine",
    device: str = "auto",
    memory_bytes: int = MEMORY_BYTES,
) -> float:
    """Compute the leave-one-out accuracy of the 1-nearest-neighbour classifier.

    Cover & Hart 1967 use it to bound the Bayes error, and Renggli et al. 2022 (Which model to transfer?) to rank
    models.

    Args:
        X: (n, d) floats of any width.
        y: (n,) labels.
        metric: ``cosine`` or ``euclidean``.
        device: Device of the matrix products.
        memory_bytes: Limit on working memory in bytes.

    Raises:
        MetricsError: The shapes do not match, or there is a single class.
    """
    labels, _ = _classes(X, y)
    head = KNNHead(1, metric=metric, device=device, memory_bytes=memory_bytes).fit(X, labels)
    return float(np.mean(labels[head.kneighbors().rows[:, 0]] == labels))


class _Axes(NamedTuple):
    """Principal axes of the features: the parts of a singular value decomposition that the scores use."""

    squares: NDArray[np.float64]  # (r,) squared singular values, largest first
    sums: NDArray[np.float64]  # (r, k) sum of the rows of each class along each axis
    fourth: float  # sum of the fourth powers of the norms of the rows


def _principal_axes(
    X: NDArray[Any], labels: NDArray[np.int64], counts: NDArray[np.int64], *, centred: bool
) -> _Axes:
    """Decompose the smaller of the two Gram matrices in float64; axes below rounding are dropped."""
    n, d = X.shape
    if n >= d:
        gram, sums, fourth = _gram_of_columns(X, labels, len(counts), centred=centred)
        squares, vectors = np.linalg.eigh(gram)
        along = vectors.T @ sums
    else:
        gram, fourth = _gram_of_rows(X, centred=centred)
        squares, vectors = np.linalg.eigh(gram)
        along = np.zeros((n, len(counts)))
        np.add.at(along.T, labels, vectors)
        along *= np.sqrt(np.maximum(squares, 0))[:, None]
    kept = np.flatnonzero(squares > squares[-1] * max(n, d) * np.finfo(np.float64).eps)[::-1]
    if not kept.size:
        raise MetricsError(
            "features: all rows are the same, expected some variance; extract features from different images"
        )
    return _Axes(squares[kept], along[kept], fourth)


def _gram_of_columns(
    X: NDArray[Any], labels: NDArray[np.int64], classes: int, *, centred: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return (d, d) products of columns, (d, k) sums of rows per class, and the sum of norms to the fourth power."""
    n, d = X.shape
    mean = _column_means(X) if centred else np.zeros(d)
    gram, sums, fourth = np.zeros((d, d)), np.zeros((classes, d)), 0.0
    for part in _blocks(n, d):
        rows = X[part].astype(np.float64)
        rows -= mean
        gram += rows.T @ rows
        np.add.at(sums, labels[part], rows)
        fourth += float((np.einsum("ij,ij->i", rows, rows) ** 2).sum())
    return _finite(gram), sums.T, fourth


def _gram_of_rows(X: NDArray[Any], *, centred: bool) -> tuple[NDArray[np.float64], float]:
    """Return (n, n) products of rows, and the sum of their norms to the fourth power."""
    n, d = X.shape
    gram = np.zeros((n, n))
    for part in _blocks(d, n):
        columns = X[:, part].astype(np.float64)
        if centred:
            columns -= columns.mean(axis=0)
        gram += columns @ columns.T
    return _finite(gram), float((gram.diagonal() ** 2).sum())


def _column_means(X: NDArray[Any]) -> NDArray[np.float64]:
    total = np.zeros(X.shape[1])
    for part in _blocks(*X.shape):
        total += X[part].sum(axis=0, dtype=np.float64)
    total /= len(X)
    return total


def _finite(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    if not np.isfinite(gram.diagonal()).all():
        raise MetricsError("features: got values that are not finite, expected finite values; drop such rows")
    return gram


def _blocks(n: int, d: int) -> Iterator[slice]:
    step = max(1, _BLOCK_BYTES // (8 * d))
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def _classes(X: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the (n,) class index of each row, and the number of rows per class."""
    if X.ndim != 2 or np.shape(y) != X.shape[:1]:
        raise MetricsError(f"got features {X.shape} and labels {np.shape(y)}, expected (n, d) and (n,)")
    names, labels, counts = np.unique(y, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise MetricsError(f"labels: got {len(names)} classes, expected at least 2")
    return labels.astype(np.int64), counts.astype(np.int64)
