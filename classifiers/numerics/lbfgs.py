"""L-BFGS for several strengths of one penalty at a time, each evaluation of all of them one pass over the rows."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from frostline.classifiers.numerics.softmax import Evaluation, SoftmaxRegression

_HISTORY = 20  # curvature pairs that are kept
_ARMIJO, _CURVATURE = 1e-4, 0.9  # Wolfe constants, as in Nocedal & Wright 2006, section 3.1
_CAUTION = 10  # times that the estimated excess is taken for the true one: it was up to 25 times too small
_TRIALS = 30  # steps a line search may try
_PATIENCE = 50  # iterations that may lower the objective by no more than rounding


class Memory(NamedTuple):
    """Steps, and how the gradient of the loss without its penalty changed along them, the latest last.

    The penalty adds l2 times the step to that change, exactly, so that one strength's pairs serve the next.

    Attributes:
        pairs: Steps and changes.
        last: Where the last one led, and the gradient of the loss there.
    """

    pairs: tuple[tuple[Tensor, Tensor], ...] = ()
    last: tuple[Tensor, Tensor] | None = None

    def move(self, theta: Tensor, gradient: Tensor, dtype: torch.dtype) -> "Memory":
        """With the pair that leads to one point more; the oldest pair may go."""
        if self.last is None:
            return Memory(self.pairs, (theta, gradient))
        step, change = (new - old for new, old in zip((theta, gradient), self.last, strict=True))
        return Memory((*self.pairs[1 - _HISTORY :], (step.to(dtype), change.to(dtype))), (theta, gradient))

    def forget(self) -> "Memory":
        """Without its pairs."""
        return Memory((), self.last)

    def direction(self, gradient: Tensor, l2: float, initial: Callable[[Tensor], Tensor]) -> Tensor:
        """The quasi-Newton direction (Nocedal & Wright 2006, algorithm 7.4), from an initial inverse Hessian."""
        direction = -gradient
        used: list[tuple[Tensor, Tensor, float, float]] = []
        for step, plain in reversed(self.pairs):
            change = plain.clone()
            change[:, :-1] += l2 * step[:, :-1]
            curvature = _dot(step, change)
            if curvature > 0:  # rounding can lose the convexity of a tiny step
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
    # Not torch.dot: its threads cost a thousand times the product of a few thousand numbers where the cores are busy.
    return float((left * right).sum())


@dataclass(frozen=True)
class Optimum:
    """Where the solver stopped.

    Attributes:
        theta: (outputs, d + 1) coefficients and intercept.
        objective: Mean cross-entropy plus l2 / 2 times the squared norm of the coefficients.
        gradient_norm: Euclidean norm of the objective's gradient.
        iterations: L-BFGS iterations.
        converged: Whether the objective is as close to its optimum as asked, by a proof or an estimate.
        excess: By how much the objective exceeds its minimum at most: a proof, see `minimise`.
        memory: Curvature pairs, for the next strength to start with.
    """

    theta: Tensor
    objective: float
    gradient_norm: float
    iterations: int
    converged: bool
    excess: float
    memory: Memory


def minimise(
    problem: SoftmaxRegression,
    l2s: Sequence[float],
    thetas: Sequence[Tensor],
    *,
    tol: float,
    max_iter: int,
    proven: bool = False,
    memory: Memory | None = None,
) -> list[Optimum]:
    """Minimise the mean cross-entropy plus ``l2 / 2 * ||W||^2`` for several l2, by L-BFGS (Liu & Nocedal 1989).

    The solver stops once the objective exceeds its minimum by at most ``tol`` times itself, and times what was gained over
    constant logits: under a strong penalty that is little, and all that predictions come from.

    Proof: the objective with the best intercept for each is an l2-strongly convex function of the coefficients, so that it
    exceeds its minimum by no more than ``||g||^2 / (2 l2)`` for its gradient g; this is the duality gap, too. What better
    intercepts would gain is of second order in their gradient, and taken at twice its value under the mean curvature.

    Estimate: half of ``g' H g``, with the true inverse Hessian H, is the excess near the minimum. L-BFGS has an approximate H,
    so that ten times as much is asked. That is reached in half as many iterations, where penalties are weak; on collinear or
    very unbalanced rows the excess can be far above ``tol``, up to what `Optimum.excess` proves.

    Args:
        problem: The rows and their classes.
        l2s: Strengths of the penalty, above 0.
        thetas: (outputs, d + 1) where to start, for each.
        tol: Largest relative excess of the objective.
        max_iter: Largest number of iterations, for each.
        proven: Whether to go on until the tolerance is proven, not only estimated.
        memory: Curvature pairs of a strength nearby.
    """
    runs = [
        _Descent(problem, l2, tol, max_iter, proven).run(theta, memory or Memory())
        for l2, theta in zip(l2s, thetas, strict=True)
    ]
    asked = {index: next(run) for index, run in enumerate(runs)}
    optima: dict[int, Optimum] = {}
    while asked:
        for index, found in zip(list(asked), problem.evaluate(list(asked.values())), strict=True):
            try:
                asked[index] = runs[index].send(found)
            except StopIteration as stop:
                optima[index] = stop.value
                del asked[index]
    return [optima[index] for index in range(len(runs))]


class _Point(NamedTuple):
    theta: Tensor
    found: Evaluation
    objective: float
    gradient: Tensor


@dataclass(frozen=True)
class _Descent:
    """One strength's run: a generator of the points it wants evaluated."""

    problem: SoftmaxRegression
    l2: float
    tol: float
    max_iter: int
    proven: bool

    def run(self, theta: Tensor, memory: Memory) -> Generator[Tensor, Evaluation, Optimum]:
        dtype = self.problem.rows.dtype
        point = self._point(theta, (yield theta))
        memory = memory.move(theta, point.found.gradient, dtype)
        iterations = idle = 0
        while True:
            direction = self._direction(point, memory)
            slope = float((point.gradient * direction).sum())
            if slope >= 0 and memory.pairs:
                memory = memory.forget()
                continue
            excess = self._excess(point)
            converged = self._converged(point, excess, slope)
            if converged or iterations >= self.max_iter or idle >= _PATIENCE or slope >= 0:
                break
            following = yield from self._search(point, direction, slope)
            if following is None:
                if not memory.pairs:
                    break  # no descent along the preconditioned gradient: this is the precision of the arithmetic
                memory = memory.forget()
                continue
            iterations += 1
            memory = memory.move(following.theta, following.found.gradient, dtype)
            gained = point.objective - following.objective > torch.finfo(dtype).eps * point.objective
            idle = 0 if gained else idle + 1
            point = following
        norm = float(point.gradient.norm())
        theta = point.theta.clone()
        if (
            len(theta) > 1
        ):  # the same for all logits changes nothing: of such intercepts, those that sum to zero
            theta[:, -1] -= theta[:, -1].mean()
        return Optimum(theta, point.objective, norm, iterations, converged, excess, memory)

    def _point(self, theta: Tensor, found: Evaluation) -> _Point:
        gradient = found.gradient.clone()
        gradient[:, :-1] += self.l2 * theta[:, :-1]
        penalty = self.l2 / 2 * float(theta[:, :-1].square().sum())
        return _Point(theta, found, found.loss + penalty, gradient)

    def _direction(self, point: _Point, memory: Memory) -> Tensor:
        def initial(gradient: Tensor) -> Tensor:
            return self.problem.precondition(gradient, point.found.curvature, self.l2)

        narrow = point.gradient.to(self.problem.rows.dtype)
        return memory.direction(narrow, self.l2, initial).to(point.theta)

    def _excess(self, point: _Point) -> float:
        """Return an upper bound of the difference between the objective and its minimum."""
        slack = point.found.curvature.clamp_min(1e-12)  # to intercepts, what the penalty is to coefficients
        coefficients = float(point.gradient[:, :-1].square().sum()) / (2 * self.l2)
        return coefficients + float((point.gradient[:, -1].square() / slack).sum())

    def _converged(self, point: _Point, excess: float, slope: float) -> bool:
        learnt = self.problem.ignorance - point.objective
        rounding = 8 * torch.finfo(self.problem.rows.dtype).eps * point.objective
        allowed = min(self.tol * point.objective, max(self.tol * learnt, rounding))
        return excess <= allowed or (not self.proven and 0 <= -slope / 2 * _CAUTION <= allowed)

    def _search(
        self, point: _Point, direction: Tensor, slope: float
    ) -> Generator[Tensor, Evaluation, _Point | None]:
        """A point along the direction that meets the strong Wolfe conditions, or None.

        The objective is convex, so its slope grows along the line and such a step lies between one where the slope is
        too negative and one where it is too positive: a safeguarded secant closes in on it. Values decide only up to
        their rounding, as in Hager & Zhang 2005.
        """
        noise = 10 * torch.finfo(self.problem.rows.dtype).eps * point.objective
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
                # A slope that isn't straight can hold the secant at one end: then halve.
                step = min(max(secant, low + margin), high - margin) if 2 * width <= wide else low + width / 2
                wide = width
        return None
