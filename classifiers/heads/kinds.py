"""What a kind of head is: how it is built, which parameters it takes, and which values are tried for it."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self, runtime_checkable

from frostline.classifiers.errors import HeadError
from frostline.classifiers.heads.parameters import Parameter, as_text
from frostline.registry import near


@runtime_checkable
class Classifier(Protocol):
    """What a head must have: the methods of a scikit-learn classifier, beside its probabilities or margins."""

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from (n, d) features and (n,) labels."""

    def predict(self, X: Any) -> Any:
        """(n,) labels of (n, d) features."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments."""

    def set_params(self, **params: Any) -> Self:
        """Change the constructor's arguments."""


@dataclass(frozen=True)
class HeadKind:
    """One kind of head.

    Attributes:
        name: As the user writes it.
        summary: What it is.
        parameters: What it takes, by name.
        build: Makes an unfitted scikit-learn estimator from all parameters, a seed and a device.
        grid: Values to try per parameter, given the parameters that the user fixed; strongest regularisation first.
        search: ``path``: the candidates differ in one strength and are solved as one path; ``epochs``: each stops
            early on validation and is kept as it is; ``grid``: each is fitted, the chosen one fitted again with
            the validation rows.
        scores: What its scores are: ``proba``, probabilities; ``decision``, margins that a temperature turns into
            probabilities; ``distance``, the same of negative squared distances to class centres; ``auto``:
            probabilities where the estimator has them, else margins.
        together: Parameters in which candidates may differ and still be trained in one program.
        streams: Whether the estimator reads `classifiers.numerics.selected_rows.SelectedRows` in blocks, again and again where they take
            more than its parameter ``memory``, in bytes.
    """

    name: str
    summary: str
    parameters: Mapping[str, Parameter]
    build: Callable[[Mapping[str, Any], int, str], Classifier]
    grid: Callable[[Mapping[str, Any]], Mapping[str, Sequence[Any]]]
    search: Literal["path", "epochs", "grid"] = "grid"
    scores: Literal["proba", "decision", "distance", "auto"] = "proba"
    together: tuple[str, ...] = ()
    streams: bool = False

    def check(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Names and values of `params`, checked.

        Raises:
            HeadError: An unknown name, with near matches, or a value that can't be.
        """
        return {name: self._find(name).check(value) for name, value in params.items()}

    def complete(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """All parameters: those given, the rest at their defaults."""
        return {name: params.get(name, parameter.default) for name, parameter in self.parameters.items()}

    def architecture(self, params: Mapping[str, Any]) -> str:
        """What candidates that are trained together have in common."""
        return str({name: value for name, value in sorted(params.items()) if name not in self.together})

    def candidates(self, fixed: Mapping[str, Any], rows: int) -> list[dict[str, Any]]:
        """What to try with `rows` training rows: the searched parameters of each candidate, strongest first."""
        grid = {name: values for name, values in self.grid(fixed).items() if name not in fixed}
        if "n_neighbors" in grid:
            grid["n_neighbors"] = [k for k in grid["n_neighbors"] if k <= rows]
        return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]

    def _find(self, name: str) -> Parameter:
        if name in self.parameters:
            return self.parameters[name]
        defaults = ", ".join(f"{p.name}={as_text(p.default).lower()}" for p in self.parameters.values())
        hint = near(name, self.parameters)
        raise HeadError(f"head {self.name!r} has no parameter {name!r}{hint}; it has {defaults}")
