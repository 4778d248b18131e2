"""Multinomial logistic regression: loss, derivatives and an approximate inverse Hessian, on streamed or resident rows.

An evaluation is one pass over blocks of rows. The logits of a block fit into the processor's cache, and one product
serves several parameter sets. No array of size rows x classes is kept.
"""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from frostline.classifiers.numerics.matrices import Matrix

_WIDEST = 2048  # largest number of features whose full covariance is decomposed
_LEAST = 1e-10  # share of the largest eigenvalue below which eigenvalues are rounding errors
_SAMPLE = 8  # rows per feature in the covariance estimate; a preconditioner only needs an approximation


class LossEvaluation(NamedTuple):
    """Mean cross-entropy and its derivatives at one point.

    Attributes:
        loss: Mean cross-entropy.
        gradient: (outputs, d + 1) derivative by the parameters.
        curvature: (outputs,) second derivative by each logit, p (1 - p), averaged over the rows.
    """

    loss: float
    gradient: Tensor
    curvature: Tensor


class _Spectrum(NamedTuple):
    """Leading (d, r) eigenvectors of the second moment of the rows, (r,) eigenvalues, and the mean of the others."""

    vectors: Tensor
    values: Tensor
    rest: float


class SoftmaxRegression:
    """Weighted mean cross-entropy of linear logits, and its derivatives.

    Two classes have one logit, of the second against the first. More classes have one logit per class.

    Args:
        matrix: (n, d) inputs.
        targets: (n,) int64 class indices, on the device of the matrix.
        sample_weight: (n,) weights of the rows, float64 if the device supports it.
        n_classes: Number of classes, at least 2.
        fit_intercept: Whether logits have an intercept.
        label_smoothing: Share of each target that is spread evenly over all classes (Szegedy et al. 2016).
    """

    def __init__(
        self,
        matrix: Matrix,
        targets: Tensor,
        sample_weight: Tensor,
        n_classes: int,
        *,
        fit_intercept: bool = True,
        label_smoothing: float = 0.0,
    ) -> None:
        self.matrix = matrix
        self.outputs = 1 if n_classes == 2 else n_classes
        self._smoothing = label_smoothing
        self._fit_intercept = fit_intercept
        self._weight = sample_weight / sample_weight.sum()
        self._targets = targets
        self._known_spectrum: _Spectrum | None = None

    @cached_property
    def constant_loss(self) -> float:
        """Loss of the best constant logits: the entropy of the class shares or, without an intercept, of equal shares."""
        classes = max(self.outputs, 2)
        if not self._fit_intercept:
            return math.log(classes)
        shares = torch.bincount(self._targets, self._weight, classes)
        shares = (1 - self._smoothing) * shares + self._smoothing / classes
        return float(torch.special.entr(shares).sum())

    def zeros(self) -> Tensor:
        """Return (outputs, d + 1) parameters, all zero: the coefficients and, in the last column, the intercept."""
        shape = (self.outputs, self.matrix.shape[1] + 1)
        return torch.zeros(shape, dtype=self._weight.dtype, device=self.matrix.device)

    def evaluate(self, thetas: Sequence[Tensor]) -> list[LossEvaluation]:
        """Evaluate the loss at several (outputs, d + 1) points in one pass over the rows."""
        many = len(thetas)
        stacked = torch.stack(list(thetas)).flatten(0, 1)
        narrow = stacked.to(self.matrix.dtype)
        coef, intercept = narrow[:, :-1].contiguous(), narrow[:, -1].contiguous()
        gradient = torch.zeros_like(stacked)
        losses, curvature = stacked.new_zeros(many), stacked.new_zeros(many, self.outputs)
        for part, block in self.matrix.blocks(len(stacked)):
            targets, weight = self._targets[part], self._weight[part]
            shares = weight.to(block.dtype)
            logits = torch.addmm(intercept, block, coef.T).view(len(block), many, self.outputs)
            loss, residual = self._loss(logits, targets)
            losses += weight @ loss.to(weight.dtype)
            spread = residual.abs()
            curvature += torch.einsum("n,nlk->lk", shares, spread.sub_(spread.square()))
            if self._smoothing:
                self._smooth(residual, targets)
            residual = residual.mul_(shares[:, None, None]).view(len(block), -1)
            gradient[:, :-1] += residual.T @ block
            gradient[:, -1] += residual.sum(dim=0)
        if not self._fit_intercept:
            gradient[:, -1] = 0
        gradients = gradient.view(many, self.outputs, -1)
        return [LossEvaluation(*each) for each in zip(losses.tolist(), gradients, curvature, strict=True)]

    def _loss(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (b, l) cross-entropy of (b, l, outputs) logits, and its derivative without label smoothing.

        No value is subtracted from one, so that both keep their relative precision for rows with almost no loss.
        """
        if self.outputs == 1:
            own = _signs(targets, logits)
            margin = logits * own
            losses = torch.nn.functional.softplus(-margin) + self._smoothing / 2 * margin
            return losses[..., 0], torch.sigmoid(-margin) * -own
        column = _columns(targets, logits)
        margin = logits - logits.gather(2, column)
        smoothed = self._smoothing * margin.mean(dim=2, keepdim=True) if self._smoothing else 0
        peak = margin.amax(dim=2, keepdim=True)
        shares = torch.exp_(margin.sub_(peak))
        shares.scatter_(2, column, 0)
        others = shares.sum(dim=2, keepdim=True)
        own = torch.exp(-peak)
        losses = peak + torch.log1p(torch.expm1(-peak) + others) - smoothed
        residual = shares.div_(own + others)
        residual.scatter_(2, column, -others / (own + others))
        return losses[..., 0], residual

    def _smooth(self, residual: Tensor, targets: Tensor) -> None:
        """Convert the derivative for hard targets to that for smoothed targets, in place."""
        if self.outputs == 1:
            residual += self._smoothing / 2 * _signs(targets, residual)
            return
        column = _columns(targets, residual)
        residual.scatter_add_(2, column, torch.full_like(column, 1, dtype=residual.dtype) * self._smoothing)
        residual -= self._smoothing / self.outputs

    def precondition(self, gradient: Tensor, curvature: Tensor, l2: float) -> Tensor:
        """Multiply a gradient by the inverse of an approximate Hessian.

        The approximation assumes that the second derivative by a logit is the same in every row, and that
        different logits are independent. One eigenbasis of the covariance of the rows then serves every class and
        every strength. With 1 / k in place of the mean curvature, it is the fixed bound of Böhning 1992 up to a
        factor.

        Args:
            gradient: (outputs, d + 1) gradient of the objective.
            curvature: (outputs,) mean second derivative by each logit.
            l2: Strength of the penalty.
        """
        vectors, values, rest = self._spectrum()
        scale = curvature.to(values.dtype)[:, None].clamp_min(1e-12)
        coef = gradient[:, :-1]
        # The complement of the eigenvectors is computed as a difference, whose rounding must not dominate.
        rounding = 8 * torch.finfo(values.dtype).eps * (scale * values[-1:].sum() + l2)
        tail = 1 / (scale * rest + l2).maximum(rounding)
        leading = (coef @ vectors) * (1 / (scale * values + l2) - tail)
        moved = torch.empty_like(gradient)
        moved[:, :-1] = coef * tail + leading @ vectors.T
        moved[:, -1] = gradient[:, -1] / scale[:, 0]
        return moved

    def _spectrum(self) -> _Spectrum:
        if self._known_spectrum is None:
            n, d = self.matrix.shape
            sample = self.matrix.sample(min(n, _SAMPLE * d if d <= _WIDEST else _WIDEST))
            self._known_spectrum = _decompose(sample)
        return self._known_spectrum


def _signs(targets: Tensor, like: Tensor) -> Tensor:
    """Return the sign, per row, that turns a binary logit into the margin of the true class."""
    return (2 * targets - 1).to(like.dtype)[:, None, None]


def _columns(targets: Tensor, like: Tensor) -> Tensor:
    """Return the column of the true class of each row, for each parameter set."""
    return targets[:, None, None].expand(-1, like.shape[1], 1)


def _decompose(sample: Tensor) -> _Spectrum:
    """Decompose the second moment of the varying features in float64, as float32 loses eigenvalues of correlated features."""
    n, d = sample.shape
    live = (sample != 0).any(dim=0)
    live_sample = sample[:, live].to("cpu" if sample.device.type == "mps" else sample.device, torch.float64)
    total, varying = float(live_sample.square().sum()) / n, max(1, live_sample.shape[1])
    try:
        values, axes = _leading(live_sample)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]  # no convergence: fall back to one scale for all directions, which is slower
        values, axes = live_sample.new_zeros(0), live_sample.new_zeros(live_sample.shape[1], 0)
    vectors = sample.new_zeros(d, len(values))
    vectors[live] = axes.to(vectors)
    rest = max(0.0, total - float(values.sum())) / max(1, varying - len(values))
    return _Spectrum(vectors, values.to(vectors), rest)


def _leading(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return the (r,) eigenvalues above rounding of the second moment of the rows of a matrix, and the (d, r) eigenvectors."""
    n, d = matrix.shape
    if n >= d:
        values, vectors = torch.linalg.eigh(matrix.T @ matrix / n)
        return values.clamp_min(0), vectors
    values, vectors = torch.linalg.eigh(matrix @ matrix.T / n)  # same eigenvalues, from the smaller matrix
    kept = values > values[-1] * _LEAST
    values = values[kept]
    return values, matrix.T @ (vectors[:, kept] / (values * n).sqrt())
