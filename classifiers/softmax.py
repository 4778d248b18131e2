"""Exact multinomial logistic regression on a matrix of rows: the objective, and an L-BFGS that knows its shape.

Along a search direction the logits change linearly. One product therefore serves a whole line search, whatever the
number of steps it tries, and an iteration costs two passes over the rows: one for the direction, one for the gradient.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Optimum", "SoftmaxRegression", "minimise"]

_HISTORY = 10  # curvature pairs that L-BFGS keeps
_ARMIJO, _CURVATURE = 1e-4, 0.9  # Wolfe constants, as in Nocedal & Wright 2006, section 3.1
_TRIALS = 30  # steps a line search may try
_PATIENCE = 50  # iterations that may lower the objective by no more than rounding
_REFRESH = 30  # iterations after which logits are computed anew, so that rounding doesn't add up


class SoftmaxRegression:
    """Weighted mean cross-entropy of linear logits, and its derivatives.

    With two classes there is one logit, of the second against the first; with more, one per class.

    Args:
        rows: (n, d) inputs.
        targets: (n,) int64 class indices, on the device of the rows.
        weights: (n,) row weights, float64 where the device has it.
        n_classes: At least 2.
        fit_intercept: Whether logits have a constant.
    """

    def __init__(
        self, rows: Tensor, targets: Tensor, weights: Tensor, n_classes: int, *, fit_intercept: bool = True
    ) -> None:
        self.rows = rows
        self.outputs = 1 if n_classes == 2 else n_classes
        self._fit_intercept = fit_intercept
        self._weights = weights / weights.sum()
        self._column_weights = self._weights.to(rows.dtype)[:, None]
        # The sign that makes a binary logit speak for the row's own class, or the column of that class.
        self._own = (2 * targets - 1).to(rows.dtype)[:, None] if self.outputs == 1 else targets[:, None]

    def zeros(self) -> Tensor:
        """Parameters (outputs, d + 1), coefficients and then the intercept, all zero."""
        shape = (self.outputs, self.rows.shape[1] + 1)
        return torch.zeros(shape, dtype=self._weights.dtype, device=self.rows.device)

    def logits(self, theta: Tensor) -> Tensor:
        """(n, outputs) scores of the rows."""
        theta = theta.to(self.rows.dtype)
        return torch.addmm(theta[:, -1], self.rows, theta[:, :-1].T)

    def loss(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy, a scalar, and its derivative by the logits, (n, outputs).

        Both keep their relative precision where a row is fitted almost perfectly: nothing is subtracted from one.
        """
        if self.outputs == 1:
            margin = logits * self._own
            losses = torch.nn.functional.softplus(-margin)
            residual = torch.sigmoid(-margin) * -self._own
        else:
            margin = logits - logits.gather(1, self._own)
            peak = margin.amax(dim=1, keepdim=True)
            shares = torch.exp_(margin.sub_(peak))
            shares.scatter_(1, self._own, 0)
            others = shares.sum(dim=1, keepdim=True)
            own = torch.exp(-peak)
            losses = peak + torch.log1p(torch.expm1(-peak) + others)
            residual = shares.div_(own + others)
            residual.scatter_(1, self._own, -others / (own + others))
        mean = self._weights @ losses[:, 0].to(self._weights.dtype)
        return mean, residual.mul_(self._column_weights)

    def intercept_curvature(self, logits: Tensor) -> Tensor:
        """(outputs, outputs) second derivative by the intercept."""
        exact = logits.to(self._weights.dtype)
        shares = torch.sigmoid(exact) if self.outputs == 1 else exact.softmax(dim=1)
        weighted = shares * self._weights[:, None]
        return torch.diag(weighted.sum(dim=0)) - weighted.T @ shares

    def gradient(self, residual: Tensor) -> Tensor:
        """(outputs, d + 1) derivative by the parameters."""
        gradient = torch.empty_like(self.zeros())
        gradient[:, :-1] = residual.T @ self.rows
        gradient[:, -1] = residual.sum(dim=0, dtype=gradient.dtype) if self._fit_intercept else 0
        return gradient


@dataclass(frozen=True)
class Optimum:
    """Where the solver stopped.

    Attributes:
        theta: (outputs, d + 1) coefficients and intercept.
        objective: Mean cross-entropy plus l2 / 2 times the squared norm of the coefficients.
        gradient_norm: Euclidean norm of the objective's gradient.
        iterations: L-BFGS iterations.
        converged: Whether the gradient proves the objective as close to its optimum as asked.
    """

    theta: Tensor
    objective: float
    gradient_norm: float
    iterations: int
    converged: bool


class _Fit(NamedTuple):
    logits: Tensor
    loss: float
    residual: Tensor


class _Point(NamedTuple):
    theta: Tensor
    logits: Tensor
    objective: float
    gradient: Tensor


def minimise(problem: SoftmaxRegression, l2: float, theta: Tensor, *, tol: float, max_iter: int) -> Optimum:
    """Minimise the mean cross-entropy plus ``l2 / 2 * ||W||^2`` by L-BFGS (Liu & Nocedal 1989).

    With the best intercept for each, the objective is an l2-strongly convex function of the coefficients, so that it
    exceeds its minimum by no more than ``||gradient||^2 / (2 l2)``. To this comes what a Newton step of the intercept
    would gain. The solver stops when both together are at most ``tol`` times the objective.

    Args:
        problem: The rows and their classes.
        l2: Strength of the penalty, above 0.
        theta: (outputs, d + 1) where to start.
        tol: Largest relative excess of the objective.
        max_iter: Largest number of iterations.
    """
    point = _evaluate(problem, l2, theta)
    memory = _Memory()
    iterations = idle = 0
    while not (converged := _proven(problem, point, l2, tol)) and iterations < max_iter and idle < _PATIENCE:
        direction = memory.direction(point.gradient)
        before = point.objective
        following = _advance(problem, l2, point, direction, first=memory.empty)
        if following is None:
            if memory.empty:
                break  # steepest descent makes no progress: this is the precision of the arithmetic
            memory = _Memory()
            point = _evaluate(problem, l2, point.theta)
            continue
        iterations += 1
        memory.add(following.theta - point.theta, following.gradient - point.gradient)
        point = following if iterations % _REFRESH else _evaluate(problem, l2, following.theta)
        gained = before - point.objective > torch.finfo(problem.rows.dtype).eps * before
        idle = 0 if gained else idle + 1
    return Optimum(point.theta, point.objective, float(point.gradient.norm()), iterations, converged)


def _proven(problem: SoftmaxRegression, point: _Point, l2: float, tol: float) -> bool:
    allowed = tol * point.objective
    excess = float(point.gradient[:, :-1].square().sum()) / (2 * l2)
    if excess > allowed:
        return False
    slope = point.gradient[:, -1]
    newton = torch.linalg.pinv(problem.intercept_curvature(point.logits), hermitian=True) @ slope
    return excess + float(slope @ newton) / 2 <= allowed


def _evaluate(problem: SoftmaxRegression, l2: float, theta: Tensor) -> _Point:
    logits = problem.logits(theta)
    loss, residual = problem.loss(logits)
    return _point(problem, l2, theta, _Fit(logits, float(loss), residual))


def _point(problem: SoftmaxRegression, l2: float, theta: Tensor, fit: _Fit) -> _Point:
    gradient = problem.gradient(fit.residual)
    gradient[:, :-1] += l2 * theta[:, :-1]
    return _Point(theta, fit.logits, fit.loss + l2 / 2 * float(theta[:, :-1].square().sum()), gradient)


class _Memory:
    """The last curvature pairs, and the quasi-Newton direction they give (Nocedal & Wright 2006, algorithm 7.4)."""

    def __init__(self) -> None:
        self._pairs: list[tuple[Tensor, Tensor, Tensor]] = []

    @property
    def empty(self) -> bool:
        return not self._pairs

    def add(self, step: Tensor, change: Tensor) -> None:
        curvature = (step * change).sum()
        if curvature > 0:  # rounding can lose the convexity of a tiny step
            self._pairs = [*self._pairs[1 - _HISTORY :], (step, change, 1 / curvature)]

    def direction(self, gradient: Tensor) -> Tensor:
        direction = -gradient
        shares = []
        for step, change, inverse in reversed(self._pairs):
            share = inverse * (step * direction).sum()
            direction = direction - share * change
            shares.append(share)
        if self._pairs:
            _, change, inverse = self._pairs[-1]
            direction = direction / (inverse * change.square().sum())
        for (step, change, inverse), share in zip(self._pairs, reversed(shares), strict=True):
            direction = direction + (share - inverse * (change * direction).sum()) * step
        return direction


def _advance(
    problem: SoftmaxRegression, l2: float, point: _Point, direction: Tensor, *, first: bool
) -> _Point | None:
    """The point that a line search finds; None where the objective falls no further."""
    slope = float((point.gradient * direction).sum())
    if slope >= 0:
        return None
    moves = problem.logits(direction)
    weights, towards = point.theta[:, :-1], direction[:, :-1]
    norms = torch.stack([weights.square().sum(), (weights * towards).sum(), towards.square().sum()]).tolist()
    residual = loss = None

    def along(step: float) -> tuple[float, float]:
        nonlocal residual, loss
        mean, residual = problem.loss(torch.add(point.logits, moves, alpha=step))
        rise = (residual * moves).sum(dtype=mean.dtype)
        loss, rise_value = torch.stack([mean, rise]).tolist()
        penalty = l2 / 2 * (norms[0] + 2 * step * norms[1] + step**2 * norms[2])
        return loss + penalty, rise_value + l2 * (norms[1] + step * norms[2])

    start = min(1.0, 1 / float(point.gradient.abs().sum())) if first else 1.0
    noise = 10 * torch.finfo(problem.rows.dtype).eps * point.objective
    step = _search(along, point.objective, slope, start, noise)
    if step is None or residual is None or loss is None:
        return None
    logits = point.logits.add_(moves, alpha=step)
    return _point(problem, l2, point.theta + step * direction, _Fit(logits, loss, residual))


def _search(
    along: Callable[[float], tuple[float, float]], value: float, slope: float, step: float, noise: float
) -> float | None:
    """A step that meets the strong Wolfe conditions, or None; the last call of `along` is at that step.

    The objective is convex, so its slope grows along the line and such a step lies between one where the slope is
    too negative and one where it is too positive: a safeguarded secant closes in on it. Values decide only up to
    their rounding, as in Hager & Zhang 2005.
    """
    low, low_slope = 0.0, slope
    high = high_slope = None
    for _ in range(_TRIALS):
        reached, now = along(step)
        if abs(now) <= _CURVATURE * abs(slope) and reached <= value + _ARMIJO * step * slope + noise:
            return step
        if now < 0:
            low, low_slope = step, now
        else:
            high, high_slope = step, now
        if high is None or high_slope is None:
            # Extrapolate to slope zero, at least twice and at most ten times as far.
            ahead = step * slope / (slope - low_slope) if low_slope > slope else 10 * step
            step = min(max(ahead, 2 * step), 10 * step)
        else:
            secant = low - low_slope * (high - low) / (high_slope - low_slope)
            margin = 0.1 * (high - low)
            step = min(max(secant, low + margin), high - margin)
    return None
