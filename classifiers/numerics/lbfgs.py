"""L-BFGS for several penalty strengths at a time, with one pass over the rows per evaluation of all strengths."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from frostline.classifiers.numerics.softmax import LossEvaluation, SoftmaxRegression

_HISTORY = 20  # number of curvature pairs that are kept
_ARMIJO, _CURVATURE = 1e-4, 0.9  # Wolfe constants, as in Nocedal & Wright 2006, section 3.1
_CAUTION = 10  # safety factor of the estimated excess, which was up to 25 times too small
_TRIALS = 30  # largest number of steps per line search
_PATIENCE = 50  # iterations without a decrease beyond rounding after which the solver stops


class CurvaturePairs(NamedTuple):
    """Curvature pairs: steps, and the changes of the gradient of the unpenalised loss along them, oldest first.

    The penalty adds exactly l2 times the step to a change, so that the pairs can be reused for other strengths.

    Attributes:
        pairs: Steps and changes of the gradient.
        last: The last point, and the gradient of the loss at this point.
    """

    pairs: tuple[tuple[Tensor, Tensor], ...] = ()
    last: tuple[Tensor, Tensor] | None = None

    def with_point(self, theta: Tensor, gradient: Tensor, dtype: torch.dtype) -> "CurvaturePairs":
        """Return the pairs with that of one more point added; the oldest pair is dropped if there are enough."""
        if self.last is None:
            return CurvaturePairs(self.pairs, (theta, gradient))
        step, change = (new - old for new, old in zip((theta, gradient), self.last, strict=True))
        return CurvaturePairs(
            (*self.pairs[1 - _HISTORY :], (step.to(dtype), change.to(dtype))), (theta, gradient)
        )

    def without_pairs(self) -> "CurvaturePairs":
        """Return no pairs, with the same last point."""
        return CurvaturePairs((), self.last)

    def direction(self, gradient: Tensor, l2: float, initial: Callable[[Tensor], Tensor]) -> Tensor:
        """Compute the quasi-Newton direction (Nocedal & Wright 2006, algorithm 7.4).

        Args:
            gradient: (outputs, d + 1) gradient of the objective.
            l2: Strength of the penalty.
            initial: Function that multiplies a gradient by the initial inverse Hessian.
        """
        direction = -gradient
        used: list[tuple[Tensor, Tensor, float, float]] = []
        for step, plain in reversed(self.pairs):
            change = plain.clone()
            change[:, :-1] += l2 * step[:, :-1]
            curvature = _dot(step, change)
            if curvature > 0:  # for tiny steps, rounding can make the curvature negative
                share = _dot(step, direction) / curvature
                direction.sub_(change, alpha=share)
                used.append((step, change, curvature, share))
        direction = initial(direction)
        if used:
            _, change, curvature, _ = used[0]
            direction *= curvature / _dot(change, initial(change))
        for step, change, curvature, share in reversed(used):
            direction.add_(step, alpha=share - _dot(change, direction) / curvature)
        return direction


def _dot(left: Tensor, right: Tensor) -> float:
    # On busy cores, the threads of torch.dot cost a thousand times the product of a few thousand numbers.
    return float((left * right).sum())


@dataclass(frozen=True)
class Optimum:
    """Result of the solver for one strength.

    Attributes:
        theta: (outputs, d + 1) coefficients and intercept.
        objective: Mean cross-entropy plus l2 / 2 times the squared norm of the coefficients.
        gradient_norm: Euclidean norm of the gradient of the objective.
        iterations: Number of L-BFGS iterations.
        converged: Whether the objective is within the tolerance of its optimum, by a proof or an estimate.
        excess: Proven upper bound of the objective minus its minimum; see `minimise`.
        curvature_pairs: Curvature pairs, to warm-start the next strength.
    """

    theta: Tensor
    objective: float
    gradient_norm: float
    iterations: int
    converged: bool
    excess: float
    curvature_pairs: CurvaturePairs


def minimise(
    problem: SoftmaxRegression,
    l2s: Sequence[float],
    thetas: Sequence[Tensor],
    *,
    tol: float,
    max_iter: int,
    proven: bool = False,
    curvature_pairs: CurvaturePairs | None = None,
) -> list[Optimum]:
    """Minimise the mean cross-entropy plus ``l2 / 2 * ||W||^2`` for several l2, by L-BFGS (Liu & Nocedal 1989).

    The solver stops when the excess of the objective over its minimum is at most ``tol`` times the objective, and
    at most ``tol`` times its gain over constant logits. Under a strong penalty this gain is small, but it
    determines all predictions.

    Proof: the objective, minimised over the intercepts, is an l2-strongly convex function of the coefficients. Its
    excess is therefore at most ``||g||^2 / (2 l2)`` for its gradient g, which is also the duality gap. The gain of
    better intercepts is of second order in their gradient; twice its value under the mean curvature is used.

    Estimate: near the minimum, the excess is half of ``g' H g`` for the true inverse Hessian H. The H of L-BFGS is
    approximate, so that a safety factor of ten is applied. For weak penalties the estimate needs half as many
    iterations as the proof. On collinear or very unbalanced rows the excess can be far above ``tol``, up to
    `Optimum.excess`.

    Args:
        problem: Features, classes and weights of the rows.
        l2s: Penalty strengths, above 0.
        thetas: (outputs, d + 1) initial parameters of each strength.
        tol: Largest relative excess of the objective.
        max_iter: Largest number of iterations per strength.
        proven: Whether to iterate until the tolerance is proven and not only estimated.
        curvature_pairs: Curvature pairs of a similar strength.

    Returns:
        One optimum per strength, in the order of `l2s`.
    """
    runs = [
        _Descent(problem, l2, tol, max_iter, proven).run(theta, curvature_pairs or CurvaturePairs())
        for l2, theta in zip(l2s, thetas, strict=True)
    ]
    points = {index: next(run) for index, run in enumerate(runs)}
    optima: dict[int, Optimum] = {}
    while points:
        for index, found in zip(list(points), problem.evaluate(list(points.values())), strict=True):
            try:
                points[index] = runs[index].send(found)
            except StopIteration as stop:
                optima[index] = stop.value
                del points[index]
    return [optima[index] for index in range(len(runs))]


class _Point(NamedTuple):
    theta: Tensor
    found: LossEvaluation
    objective: float
    gradient: Tensor


@dataclass(frozen=True)
class _Descent:
    """Minimisation for one strength, as a generator of the points to evaluate."""

    problem: SoftmaxRegression
    l2: float
    tol: float
    max_iter: int
    proven: bool

    def run(self, theta: Tensor, curvature: CurvaturePairs) -> Generator[Tensor, LossEvaluation, Optimum]:
        dtype = self.problem.matrix.dtype
        point = self._point(theta, (yield theta))
        curvature = curvature.with_point(theta, point.found.gradient, dtype)
        iterations = idle = 0
        while True:
            direction = self._direction(point, curvature)
            slope = float((point.gradient * direction).sum())
            if slope >= 0 and curvature.pairs:
                curvature = curvature.without_pairs()
                continue
            excess = self._excess(point)
            converged = self._converged(point, excess, slope)
            if converged or iterations >= self.max_iter or idle >= _PATIENCE or slope >= 0:
                break
            following = yield from self._search(point, direction, slope)
            if following is None:
                if not curvature.pairs:
                    break  # no descent along the preconditioned gradient: the arithmetic precision is reached
                curvature = curvature.without_pairs()
                continue
            iterations += 1
            curvature = curvature.with_point(following.theta, following.found.gradient, dtype)
            gained = point.objective - following.objective > torch.finfo(dtype).eps * point.objective
            idle = 0 if gained else idle + 1
            point = following
        norm = float(point.gradient.norm())
        theta = point.theta.clone()
        # A constant added to all logits changes nothing: choose the intercepts that sum to zero.
        if len(theta) > 1:
            theta[:, -1] -= theta[:, -1].mean()
        return Optimum(theta, point.objective, norm, iterations, converged, excess, curvature)

    def _point(self, theta: Tensor, found: LossEvaluation) -> _Point:
        gradient = found.gradient.clone()
        gradient[:, :-1] += self.l2 * theta[:, :-1]
        penalty = self.l2 / 2 * float(theta[:, :-1].square().sum())
        return _Point(theta, found, found.loss + penalty, gradient)

    def _direction(self, point: _Point, curvature: CurvaturePairs) -> Tensor:
        def initial(gradient: Tensor) -> Tensor:
            return self.problem.precondition(gradient, point.found.curvature, self.l2)

        narrow = point.gradient.to(self.problem.matrix.dtype)
        return curvature.direction(narrow, self.l2, initial).to(point.theta)

    def _excess(self, point: _Point) -> float:
        """Return an upper bound of the difference between the objective and its minimum."""
        slack = point.found.curvature.clamp_min(1e-12)  # plays the role of the penalty for the intercepts
        coefficients = float(point.gradient[:, :-1].square().sum()) / (2 * self.l2)
        return coefficients + float((point.gradient[:, -1].square() / slack).sum())

    def _converged(self, point: _Point, excess: float, slope: float) -> bool:
        learnt = self.problem.constant_loss - point.objective
        rounding = 8 * torch.finfo(self.problem.matrix.dtype).eps * point.objective
        allowed = min(self.tol * point.objective, max(self.tol * learnt, rounding))
        return excess <= allowed or (not self.proven and 0 <= -slope / 2 * _CAUTION <= allowed)

    def _search(
        self, point: _Point, direction: Tensor, slope: float
    ) -> Generator[Tensor, LossEvaluation, _Point | None]:
        """Return a point along the direction that satisfies the strong Wolfe conditions, or None.

        The objective is convex, so that its slope increases along the line. A valid step lies between a step with
        a slope that is too negative and a step with a slope that is too positive, and is found by a safeguarded
        secant method. Values are compared up to their rounding, as in Hager & Zhang 2005.
        """
        noise = 10 * torch.finfo(self.problem.matrix.dtype).eps * point.objective
        low, low_slope, step, wide = 0.0, slope, 1.0, torch.inf
        high = high_slope = None
        for _ in range(_TRIALS):
            theta = point.theta + step * direction
            trial = self._point(theta, (yield theta))
            now = float((trial.gradient * direction).sum())
            enough = point.objective + _ARMIJO * step * slope + noise
            if abs(now) <= _CURVATURE * abs(slope) and trial.objective <= enough:
                return trial
            if now < 0:
                low, low_slope = step, now
            else:
                high, high_slope = step, now
            if high is None or high_slope is None:
                # Extrapolate to slope zero, at least twice and at most ten times as far.
                ahead = step * slope / (slope - low_slope) if low_slope > slope else 10 * step
                step = min(max(ahead, 2 * step), 10 * step)
            else:
                width, margin = high - low, 0.1 * (high - low)
                secant = low - low_slope * width / (high_slope - low_slope)
                # The secant can stall at one end if the slope is not linear; bisect in that case.
                step = min(max(secant, low + margin), high - margin) if 2 * width <= wide else low + width / 2
                wide = width
        return None
