"""The linear head: exact multinomial logistic regression for one penalty strength or a regularisation path."""

import copy
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted, validate_data

from frostline.classifiers.errors import HeadError
from frostline.classifiers.heads.kinds import HeadKind
from frostline.classifiers.heads.parameters import (
    CLASS_WEIGHT,
    FLAG,
    POSITIVE,
    Parameter,
    by_name,
    number,
    one_of,
    whole,
)
from frostline.classifiers.numerics.lbfgs import CurvaturePairs, Optimum, minimise
from frostline.classifiers.numerics.matrices import (
    FLOATS,
    SCALES,
    ClassWeight,
    Matrix,
    ResidentMatrix,
    Scale,
    chunks,
    exact_dtype,
    normalise,
    row_space,
    standardise,
    stream,
    training_rows,
)
from frostline.classifiers.numerics.selected_rows import SelectedRows
from frostline.classifiers.numerics.softmax import SoftmaxRegression
from frostline.numerics.devices import resolve_device

Dtype = Literal["auto", "float32", "float64"]

_GROUP = 3  # largest number of strengths solved together; more would start too far from the last solution
_WIDE = 2  # features per row from which the problem is solved in the row space
_PATH_TOL = (
    20  # factor of the tolerance on a path: its candidates are only compared, and the chosen one is refitted
)
_COLUMNS = 64  # columns beyond which a wider matrix product is not more efficient


@dataclass(frozen=True)
class LinearSolution:
    """One point of a regularisation path, in the units of the input features.

    Attributes:
        l2: Strength of the penalty.
        coef: float64 (k, d), or (1, d) for two classes.
        intercept: float64 (k,) or (1,).
        objective: Mean cross-entropy plus the penalty.
        gradient_norm: Euclidean norm of the gradient of the objective.
        iterations: Number of L-BFGS iterations.
        converged: Whether the objective is within the tolerance of its optimum, by a proof or an estimate.
        excess: Proven upper bound of the objective minus its optimum; see `frostline.classifiers.numerics.lbfgs.minimise`.
        seconds: Wall time of this point in seconds.
    """

    l2: float
    coef: NDArray[np.float64]
    intercept: NDArray[np.float64]
    objective: float
    gradient_norm: float
    iterations: int
    converged: bool
    excess: float
    seconds: float


def linear_path(
    X: NDArray[Any] | SelectedRows,
    y: NDArray[Any],
    l2s: Iterable[float],
    *,
    sample_weight: NDArray[np.float64] | None = None,
    fit_intercept: bool = True,
    scale: Scale = "standard",
    label_smoothing: float = 0.0,
    tol: float = 2e-4,
    max_iter: int = 1000,
    proven: bool = False,
    device: str = "auto",
    dtype: Dtype = "auto",
    memory: int | None = None,
    start: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> Iterator[LinearSolution]:
    """Solve multinomial logistic regression for several penalty strengths, from strong to weak, with warm starts.

    The rows are copied to the device once, or streamed in blocks in every pass if they do not fit. Solutions are
    computed lazily, so that a caller may score each one and stop. With few classes, several strengths share one
    matrix product.

    Args:
        X: (n, d) floats, e.g. a float16 memory map, or rows selected from one.
        y: (n,) labels of at least two classes. Coefficients are in the order of the sorted labels.
        l2s: Penalty strengths above 0, in any order.
        sample_weight: (n,) non-negative row weights.
        fit_intercept: Whether to fit an unpenalised intercept per class.
        scale: ``standard`` penalises the coefficients of standardised features, ``none`` those of raw ones, ``l2``
            and ``maxnorm`` those of rows divided by their norm.
        label_smoothing: Share of each target that is spread evenly over all classes.
        tol: Largest relative excess of the objective over its optimum; see `frostline.classifiers.numerics.lbfgs.minimise`.
        max_iter: Largest number of iterations per strength.
        proven: Whether to iterate until the tolerance is proven and not only estimated. This takes twice as many
            iterations for weak penalties.
        device: ``auto``, ``cpu``, ``cuda[:N]`` or ``mps``.
        dtype: Number format of the products; ``auto`` is float64 for float64 input, otherwise float32.
        memory: Largest size of the rows on the device in bytes. Larger inputs are streamed. None means no limit.
        start: Initial coefficients and intercept, in the units of X.

    Yields:
        One solution per strength, strongest penalty first.

    Raises:
        HeadError: An option is out of range, the device is not available, or there are fewer than two classes.
    """
    strengths = sorted(map(float, l2s), reverse=True)
    _check_options(strengths, scale=scale, smoothing=label_smoothing, tol=tol, max_iter=max_iter, dtype=dtype)
    classes, targets = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise HeadError(f"a linear head needs rows of at least two classes; got {len(classes)} class")
    torch_device = resolve_device(device, HeadError)
    weight = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, np.float64)
    on_device = torch.as_tensor(weight).to(torch_device, exact_dtype(torch_device))
    matrix, mean, divisor = _load(
        X,
        on_device,
        scale,
        torch_device,
        _matrix_dtype(X, dtype, torch_device),
        centre=fit_intercept,
        memory=memory,
    )
    axes = None
    if isinstance(matrix, ResidentMatrix) and _WIDE * len(matrix.values) <= X.shape[1]:
        matrix, axes = row_space(matrix)
    problem = SoftmaxRegression(
        matrix,
        torch.as_tensor(targets, device=torch_device),
        on_device,
        len(classes),
        fit_intercept=fit_intercept,
        label_smoothing=label_smoothing,
    )
    units = _Units(mean, divisor, axes)
    theta = problem.zeros()
    if start is not None:
        coef, intercept = start
        if coef.shape != (problem.outputs, X.shape[1]) or intercept.shape != (problem.outputs,):
            raise HeadError(
                f"start: got coefficients {coef.shape} and intercept {intercept.shape}, "
                f"expected ({problem.outputs}, {X.shape[1]}) and ({problem.outputs},)"
            )
        theta = units.enter(coef, intercept).to(theta)
    for l2, optimum, seconds in _solve_path(problem, strengths, theta, tol, max_iter, proven=proven):
        coef, intercept = units.leave(optimum.theta)
        yield LinearSolution(
            l2,
            coef,
            intercept,
            optimum.objective,
            optimum.gradient_norm,
            optimum.iterations,
            optimum.converged,
            optimum.excess,
            seconds,
        )


@dataclass(frozen=True)
class _Units:
    """Conversion of parameters between the units of the input features and those of the solver."""

    mean: NDArray[np.float64]
    divisor: NDArray[np.float64]
    axes: torch.Tensor | None

    def enter(self, coef: NDArray[np.float64], intercept: NDArray[np.float64]) -> torch.Tensor:
        scaled = torch.as_tensor(coef * self.divisor)
        if self.axes is not None:
            scaled = scaled @ self.axes.cpu().to(scaled)
        return torch.hstack([scaled, torch.as_tensor(intercept + coef @ self.mean)[:, None]])

    def leave(self, theta: torch.Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        solved = theta.cpu().to(torch.float64)
        scaled = solved[:, :-1]
        if self.axes is not None:
            scaled = scaled @ self.axes.cpu().to(scaled).T
        coef: NDArray[np.float64] = scaled.numpy() / self.divisor
        return coef, solved[:, -1].numpy() - coef @ self.mean


def _load(
    X: NDArray[Any] | SelectedRows,
    sample_weight: torch.Tensor,
    scale: Scale,
    device: torch.device,
    dtype: torch.dtype,
    *,
    centre: bool,
    memory: int | None,
) -> tuple[Matrix, NDArray[np.float64], NDArray[np.float64]]:
    """Return a matrix on the device or streamed to it. Its rows are centred if an intercept absorbs the shift."""
    if memory is not None and X.shape[0] * X.shape[1] * dtype.itemsize > memory:
        return stream(X, sample_weight, scale, device, dtype, centre=centre)
    matrix, mean, divisor = standardise(X, sample_weight, scale, device, dtype, centre=centre)
    return ResidentMatrix(matrix), mean, divisor


def _solve_path(
    problem: SoftmaxRegression,
    strengths: list[float],
    theta: torch.Tensor,
    tol: float,
    max_iter: int,
    *,
    proven: bool,
) -> Iterator[tuple[float, Optimum, float]]:
    """Solve the strengths in groups, each started at an extrapolation of the last two solutions."""
    group = max(1, min(_GROUP, _COLUMNS // problem.outputs))
    pairs = CurvaturePairs()
    known: list[tuple[float, torch.Tensor]] = []
    for first in range(0, len(strengths), group):
        began = time.perf_counter()
        l2s = strengths[first : first + group]
        starts = [_extrapolate(known, l2, theta) for l2 in l2s]
        optima = minimise(
            problem, l2s, starts, tol=tol, max_iter=max_iter, proven=proven, curvature_pairs=pairs
        )
        pairs = optima[-1].curvature_pairs
        known = [*known, *zip(l2s, (optimum.theta for optimum in optima), strict=True)][-2:]
        seconds = (time.perf_counter() - began) / len(l2s)
        for l2, optimum in zip(l2s, optima, strict=True):
            yield l2, optimum, seconds


def _extrapolate(known: list[tuple[float, torch.Tensor]], l2: float, otherwise: torch.Tensor) -> torch.Tensor:
    """Extrapolate the path to l2, linearly in the logarithm of l2."""
    if len(known) < 2 or known[0][0] == known[1][0]:
        return known[-1][1] if known else otherwise
    (far, before), (near, last) = known
    ahead = (np.log(l2) - np.log(near)) / (np.log(near) - np.log(far))
    return last + min(float(ahead), 2.0) * (last - before)


def _check_options(
    strengths: list[float], *, scale: str, smoothing: float, tol: float, max_iter: int, dtype: str
) -> None:
    if not strengths or not all(0 < l2 < np.inf for l2 in strengths):
        raise HeadError(
            f"l2: got {strengths}, expected strengths above 0: without a penalty, separable rows have no optimum"
        )
    if scale not in SCALES:
        raise HeadError(f"scale: got {scale!r}, expected one of {', '.join(SCALES)}")
    if not 0 <= smoothing < 1:
        raise HeadError(f"label_smoothing: got {smoothing}, expected at least 0 and below 1")
    if dtype not in {"auto", "float32", "float64"}:
        raise HeadError(f"dtype: got {dtype!r}, expected 'auto', 'float32' or 'float64'")
    if not tol > 0 or max_iter < 1:
        raise HeadError(
            f"got tol={tol} and max_iter={max_iter}, expected tol above 0 and max_iter of at least 1"
        )


def _matrix_dtype(X: NDArray[Any] | SelectedRows, dtype: str, device: torch.device) -> torch.dtype:
    wide = dtype == "float64" or (dtype == "auto" and X.dtype == np.float64 and device.type != "mps")
    return torch.float64 if wide else torch.float32


def _normalised(X: NDArray[Any], scale: Scale) -> NDArray[Any]:
    if scale not in {"l2", "maxnorm"}:
        return X
    normal: NDArray[Any] = normalise(torch.from_numpy(X.copy()), scale).numpy()
    return normal


class LinearHead(ClassifierMixin, BaseEstimator):
    """Exact multinomial logistic regression by L-BFGS in torch, on a CPU or a GPU.

    The objective is the (weighted) mean cross-entropy plus ``l2 / 2`` times the squared norm of the coefficients.
    The intercept is not penalised. ``LogisticRegression(C)`` of scikit-learn minimises the same objective with
    ``C = 1 / (l2 * n)`` for n rows.

    Args:
        l2: Strength of the penalty, above 0.
        fit_intercept: Whether to fit an intercept per class.
        scale: ``standard`` penalises the coefficients of standardised features, ``none`` those of raw ones, ``l2``
            and ``maxnorm`` those of rows divided by their Euclidean norm or largest absolute value.
        tol: Largest relative excess of the objective over its optimum. `fit` iterates until it is proven.
        max_iter: Largest number of iterations.
        class_weight: None, ``balanced``, or a weight per class.
        device: ``auto`` (CUDA if available, otherwise the CPU), ``cpu``, ``cuda[:N]`` or ``mps``.
        dtype: Number format of the products; ``auto`` is float64 for float64 input, otherwise float32.
        label_smoothing: Share of each target that is spread evenly over all classes.
        memory: Largest size of the rows on the device in bytes. Larger inputs are streamed. None means no limit.

    Attributes:
        classes_: The k sorted labels.
        coef_: float64 (k, d), or (1, d) for two classes, in the units of the input features.
        intercept_: float64 (k,) or (1,).
        n_iter_: Number of iterations.
        objective_: Final value of the objective.
        converged_: Whether ``objective_`` is within ``tol`` of its optimum, proven by `fit` or estimated by `path`.
    """

    def __init__(
        self,
        l2: float = 0.03,
        *,
        fit_intercept: bool = True,
        scale: Scale = "standard",
        tol: float = 1e-5,
        max_iter: int = 1000,
        class_weight: ClassWeight = None,
        device: str = "auto",
        dtype: Dtype = "auto",
        label_smoothing: float = 0.0,
        memory: int | None = None,
    ) -> None:
        self.l2 = l2
        self.fit_intercept = fit_intercept
        self.scale = scale
        self.tol = tol
        self.max_iter = max_iter
        self.class_weight = class_weight
        self.device = device
        self.dtype = dtype
        self.label_smoothing = label_smoothing
        self.memory = memory

    def fit(
        self,
        X: ArrayLike | SelectedRows,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        coef_init: NDArray[np.float64] | None = None,
        intercept_init: NDArray[np.float64] | None = None,
    ) -> Self:
        """Fit to (n, d) features and (n,) labels.

        Args:
            X: (n, d) floats. Memory maps, rows selected from one, and float16 are read in blocks.
            y: (n,) labels of any type.
            sample_weight: (n,) non-negative weights. An integer weight is equivalent to that number of copies of
                the row.
            coef_init: Initial coefficients, in the shape of ``coef_``.
            intercept_init: Initial intercept, in the shape of ``intercept_``.

        Raises:
            HeadError: An option is out of range, or there are fewer than two classes.
        """
        start = None if coef_init is None or intercept_init is None else (coef_init, intercept_init)
        (solution,) = self._solve(X, y, [self.l2], sample_weight, tol=self.tol, proven=True, start=start)
        self._adopt(solution)
        if not self.converged_:
            warnings.warn(
                f"l2={self.l2}: the objective is not within tol={self.tol} of its optimum after "
                f"{self.n_iter_} iterations; raise max_iter or tol, or use dtype='float64'",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def path(
        self,
        X: ArrayLike | SelectedRows,
        y: ArrayLike,
        l2s: Iterable[float],
        sample_weight: ArrayLike | None = None,
    ) -> Iterator[Self]:
        """Fit a copy of this head for each of several strengths, with warm starts; see `linear_path`.

        The tolerance is twenty times ``tol``, estimated by L-BFGS. This is sufficient to compare the strengths;
        the chosen one is then fitted with `fit`.

        Args:
            X: (n, d) floats.
            y: (n,) labels of any type.
            l2s: Penalty strengths above 0.
            sample_weight: (n,) non-negative weights.

        Yields:
            Fitted heads, strongest penalty first. ``converged_`` reports convergence; no warning is issued.
        """
        for solution in self._solve(X, y, l2s, sample_weight, tol=_PATH_TOL * self.tol):
            self._adopt(solution)
            yield copy.copy(self).set_params(l2=solution.l2)

    def _solve(
        self,
        X: ArrayLike | SelectedRows,
        y: ArrayLike,
        l2s: Iterable[float],
        sample_weight: ArrayLike | None,
        *,
        tol: float,
        proven: bool = False,
        start: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    ) -> Iterator[LinearSolution]:
        features, labels, weight = training_rows(self, X, y, sample_weight, self.class_weight)
        self.classes_ = np.unique(labels)
        return linear_path(
            features,
            labels,
            l2s,
            sample_weight=weight,
            fit_intercept=self.fit_intercept,
            scale=self.scale,
            label_smoothing=self.label_smoothing,
            memory=self.memory,
            tol=tol,
            max_iter=self.max_iter,
            proven=proven,
            device=self.device,
            dtype=self.dtype,
            start=start,
        )

    def _adopt(self, solution: LinearSolution) -> None:
        self.coef_, self.intercept_ = solution.coef, solution.intercept
        self.n_iter_, self.objective_ = solution.iterations, solution.objective
        self.converged_ = solution.converged

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the (n, k) logits of (n, d) features, or the (n,) logits of the second of two classes."""
        check_is_fitted(self)
        features = validate_data(self, X, dtype=FLOATS, reset=False)
        width = np.float64 if features.dtype == np.float64 else np.float32
        coef = self.coef_.T.astype(width)
        parts: list[NDArray[Any]] = [
            np.dot(_normalised(part.astype(width, copy=False), self.scale), coef) for part in chunks(features)
        ]
        logits: NDArray[np.float64] = np.concatenate(parts).astype(np.float64) + self.intercept_
        return logits[:, 0] if logits.shape[1] == 1 else logits

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the (n, k) probabilities of ``classes_``."""
        logits = self.decision_function(X)
        if logits.ndim == 1:
            logits = np.stack([np.zeros_like(logits), logits], axis=1)
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        proba: NDArray[np.float64] = exponents / exponents.sum(axis=1, keepdims=True)
        return proba

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the (n,) most probable labels."""
        logits = self.decision_function(X)
        chosen = (logits > 0).astype(np.intp) if logits.ndim == 1 else logits.argmax(axis=1)
        labels: NDArray[Any] = self.classes_[chosen]
        return labels

    def to_tensors(self) -> dict[str, NDArray[Any]]:
        """Return the fitted state as named arrays. `from_tensors` of a head with the same options restores it."""
        check_is_fitted(self)
        return {
            "coef": self.coef_,
            "intercept": self.intercept_,
            "classes": np.asarray(self.classes_, np.int64),
        }

    def from_tensors(self, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Restore the state from the arrays of `to_tensors`, for integer labels.

        Raises:
            HeadError: Arrays are missing, or their shapes do not match.
        """
        if set(tensors) != {"coef", "intercept", "classes"}:
            raise HeadError(f"got tensors {sorted(tensors)}, expected classes, coef and intercept")
        coef, intercept, classes = tensors["coef"], tensors["intercept"], tensors["classes"]
        outputs = 1 if len(classes) == 2 else len(classes)
        kinds = {coef.dtype.kind, intercept.dtype.kind}
        if coef.ndim != 2 or coef.shape[0] != outputs or intercept.shape != (outputs,) or kinds != {"f"}:
            raise HeadError(
                f"got coef {coef.dtype} {coef.shape} and intercept {intercept.dtype} {intercept.shape}, expected floats"
                f" ({outputs}, d) and ({outputs},)"
            )
        self.coef_, self.intercept_, self.classes_ = coef, intercept, classes
        self.n_features_in_ = coef.shape[1]
        return self


def _build(params: Mapping[str, Any], _seed: int, device: str) -> LinearHead:
    return LinearHead(device=device, **params)


# 45 values over nine decades, the number used by Kornblith et al. 2019 ("Do Better ImageNet Models Transfer Better?").
_STRENGTHS = tuple(float(f"{10 ** (2 - 9 * step / 44):.3g}") for step in range(45))

LINEAR = HeadKind(
    name="linear",
    summary="exact multinomial logistic regression by L-BFGS in torch",
    parameters=by_name(
        Parameter("l2", 0.03, POSITIVE, "strength of the penalty on the coefficients"),
        Parameter(
            "scale",
            "standard",
            one_of(*SCALES),
            "standardise the features, divide each row by its norm, or neither",
        ),
        CLASS_WEIGHT,
        Parameter("fit_intercept", True, FLAG, "fit an intercept per class"),
        Parameter(
            "label_smoothing",
            0.0,
            number(0, 1, closed=True),
            "share of each target spread evenly over all classes",
        ),
        Parameter("tol", 1e-5, POSITIVE, "largest relative excess of the objective over its optimum"),
        Parameter("max_iter", 1000, whole(1), "largest number of iterations"),
        Parameter("dtype", "auto", one_of(*get_args(Dtype)), "number format of the products"),
    ),
    build=_build,
    grid=lambda _: {"l2": _STRENGTHS},
    search="path",
    streams=True,
)
