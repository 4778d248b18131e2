"""Inputs of a fit: labelled rows and options."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.errors import HeadError, SplitError
from frostline.classifiers.heads.kinds import HeadKind


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """Features and labels, divided into training rows and validation rows. No other row is read.

    Attributes:
        X: (n, d) floats of any width, e.g. a memory map.
        y: (n,) indices into classes.
        train: Row indices to fit, in ascending order.
        val: Row indices to choose and to evaluate on, in ascending order; may be empty.
        classes: Names of the classes.

    Raises:
        HeadError: Features or labels have another shape, or the training rows have one class only.
        SplitError: Rows overlap, are out of range or have no label, or there are no training rows.
    """

    X: NDArray[Any]
    y: NDArray[np.int64]
    train: NDArray[np.int64]
    val: NDArray[np.int64]
    classes: Sequence[str]

    def __post_init__(self) -> None:
        for name in ("train", "val"):
            object.__setattr__(self, name, np.sort(np.asarray(getattr(self, name), np.int64)))
        object.__setattr__(self, "classes", tuple(self.classes))
        self._check_arrays()
        self._check_part("train", self.train)
        self._check_part("val", self.val)
        self._check_division()

    def divided(self, train: NDArray[np.int64], val: NDArray[np.int64]) -> "LabelledRows":
        """Return the same features and labels with other training and validation rows."""
        return replace(self, train=train, val=val)

    def _check_arrays(self) -> None:
        X, y = self.X, self.y
        if len(X.shape) != 2 or not np.issubdtype(X.dtype, np.floating):
            raise HeadError(f"features: got {X.dtype} of shape {X.shape}, expected floats of shape (n, d)")
        if y.shape != (X.shape[0],):
            raise HeadError(f"labels: got shape {y.shape}, expected ({X.shape[0]},), one per row of features")

    def _check_part(self, name: str, rows: NDArray[np.int64]) -> None:
        if not len(rows):
            return
        if rows[0] < 0 or rows[-1] >= len(self.y):
            raise SplitError(f"{name}: got rows {rows[0]} to {rows[-1]}, expected 0 to {len(self.y) - 1}")
        labels = self.y[rows]
        if labels.min() < 0 or labels.max() >= len(self.classes):
            raise SplitError(
                f"{name}: got labels {labels.min()} to {labels.max()}, expected 0 to {len(self.classes) - 1}; "
                "drop rows without a label (-1)"
            )

    def _check_division(self) -> None:
        if not len(self.train):
            raise SplitError("train: no rows to fit a head on")
        labels = np.unique(self.y[self.train])
        if len(labels) < 2:
            raise HeadError(
                f"train: got rows of one class only ({self.classes[labels[0]]!r}), expected two or more"
            )
        shared = np.intersect1d(self.train, self.val)
        if shared.size:
            raise SplitError(
                f"{shared.size} rows are in train and in val, e.g. row {shared[0]}; they must not overlap"
            )


@dataclass(frozen=True)
class FitOptions:
    """Options of a fit that do not depend on the rows.

    Attributes:
        params: Fixed parameters; see `frostline.classifiers.heads.catalog.parse_params`.
        seed: Random seed.
        device: Device of torch heads: ``auto``, ``cpu``, ``cuda[:N]`` or ``mps``.
        memory: Largest size of the rows in memory in bytes. ``linear`` streams larger features in blocks; other
            heads raise HeadError. None means no limit.
        trusted: Modules that a head ``module:Class`` may import; see `frostline.classifiers.heads.catalog.find_head`.
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    device: str = "auto"
    memory: int | None = None
    trusted: Collection[str] = ()

    def checked(self, kind: HeadKind) -> "FitOptions":
        """Return the same options with parsed parameters.

        Raises:
            HeadError: A parameter is unknown, or its value is not valid.
        """
        return replace(self, params=kind.check(self.params))


DEFAULTS: Final = FitOptions()
"""Default options: no fixed parameters, seed 0, device ``auto``, and no memory limit."""
