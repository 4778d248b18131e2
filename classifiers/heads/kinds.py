"""Kinds of heads: builder, parameters and search grid of each."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self, runtime_checkable

from frostline.classifiers.errors import HeadError
from frostline.classifiers.heads.parameters import Parameter, as_text
from frostline.registry import near


@runtime_checkable
class Classifier(Protocol):
    """Interface of a scikit-learn classifier that a head must implement, in addition to probabilities or margins."""

    def fit(self, X: Any, y: Any) -> Self:
        """Fit to (n, d) features and (n,) labels."""

    def predict(self, X: Any) -> Any:
        """Return the (n,) predicted labels of (n, d) features."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the arguments of the constructor."""

    def set_params(self, **params: Any) -> Self:
        """Set arguments of the constructor."""


@dataclass(frozen=True)
class HeadKind:
    """One kind of head.

    Attributes:
        name: Name of the head, as users write it.
        summary: Short description.
        parameters: Parameters by name.
        build: Function that returns an unfitted scikit-learn estimator for all parameters, a seed and a device. It is
            a `sklearn.pipeline.Pipeline`, or has the methods ``to_tensors`` and ``from_tensors`` to be saved with.
        grid: Function that returns the values to try per parameter, given the fixed parameters. The strongest
            regularisation comes first.
        search: Search strategy. ``path``: the candidates differ in one penalty strength and are solved as one
            regularisation path. ``epochs``: each candidate stops early on validation rows and is not refitted.
            ``grid``: each candidate is fitted, and the chosen one is refitted with the validation rows.
        scores: Type of the scores. ``proba``: probabilities. ``decision``: margins, converted to probabilities by
            temperature scaling. ``distance``: negative squared distances to class centres, converted likewise.
            ``auto``: probabilities if the estimator returns them, otherwise margins.
        together: Parameters in which candidates of one batched training may differ.
        streams: Whether the estimator accepts `frostline.classifiers.numerics.selected_rows.SelectedRows` and streams them in
            blocks if they exceed its parameter ``memory``, in bytes.
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
        """Validate parameters, and return their parsed values by name.

        Raises:
            HeadError: A name is unknown (the message lists near matches), or a value is invalid.
        """
        return {name: self._find(name).check(value) for name, value in params.items()}

    def complete(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return all parameters, with defaults for those not in `params`."""
        return {name: params.get(name, parameter.default) for name, parameter in self.parameters.items()}

    def architecture(self, params: Mapping[str, Any]) -> str:
        """Return a key of the parameters that candidates of one batched training share."""
        return str({name: value for name, value in sorted(params.items()) if name not in self.together})

    def candidates(self, fixed: Mapping[str, Any], rows: int) -> list[dict[str, Any]]:
        """Return the searched parameters of each candidate for `rows` training rows, strongest regularisation first."""
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
