"""Conversion of imported numbers to float32, and what is lost in it."""

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from frostline.features.cache.file.encoding import unstorable, unstorable_reason
from frostline.features.errors import VectorsError
from frostline.features.spec import Dtype

_EXACT: Final[dict[str, int]] = {"float32": 1 << 24, "float16": 1 << 11, "bfloat16": 1 << 8}
"""Largest integer up to which all are exact, by number format of the file."""


def stored_dtype(dtypes: set[str]) -> Dtype:
    """Return the number format that holds the numbers of a file, or comes nearest to it."""
    return dtypes.pop() if len(dtypes) == 1 and dtypes <= {"float16", "bfloat16"} else "float32"  # type: ignore[return-value]


@dataclass
class Conversion:
    """Conversion of the numbers of a layer to float32.

    Attributes:
        key: Key of the layer.
        dtype: Number format in the file.
        rounded: Number of float64 values that float32 does not hold exactly.
        error: Largest error of such a value, relative to it.
    """

    key: str
    dtype: Dtype
    rounded: int = field(default=0, init=False)
    error: float = field(default=0.0, init=False)

    def convert(self, values: NDArray[Any]) -> tuple[NDArray[np.float32], dict[int, str]]:
        """Return (k, d) numbers as float32, and the reason why a row can't be stored, by its position.

        Raises:
            VectorsError: An integer is not exact in the number format of the file.
        """
        if values.dtype.kind in "iu":
            self._check_integers(values)
        with np.errstate(over="ignore", invalid="ignore"):
            converted = np.ascontiguousarray(values, np.float32)
        if values.dtype.itemsize == 8 and values.dtype.kind == "f":
            self._measure(values, converted)
        reasons = {}
        for row in np.flatnonzero(unstorable(converted[:, None, :], self.dtype)).tolist():
            lost = int((np.isfinite(values[row]) & ~np.isfinite(converted[row])).sum())
            reasons[row] = (
                f"{self.key}: {lost} of {converted.shape[1]} values overflow float32"
                if lost
                else unstorable_reason(self.key, converted[row], self.dtype)
            )
        return converted, reasons

    def _check_integers(self, values: NDArray[Any]) -> None:
        most = _EXACT[self.dtype]
        if np.iinfo(values.dtype).max <= most:
            return
        low, high = int(values.min()), int(values.max())
        if max(high, -low) > most:
            raise VectorsError(
                f"{self.key}: got the integer {high if high >= -low else low}, and {self.dtype} holds all integers only up to"
                f" {most:,}. Scale the vectors, or convert them to float where they were made"
                + ("" if self.dtype == "float32" else ", or store float32")
            )

    def _measure(self, values: NDArray[np.float64], converted: NDArray[np.float32]) -> None:
        finite = np.isfinite(values) & np.isfinite(converted)
        differs = finite & (converted != values)
        if differs.any():
            self.rounded += int(differs.sum())
            exact = values[differs]
            self.error = max(self.error, float((np.abs(converted[differs] - exact) / np.abs(exact)).max()))

    @property
    def remark(self) -> str:
        """Sentence on what was lost; empty for nothing."""
        if not self.rounded:
            return ""
        return (
            f"{self.key}: {self.rounded:,} float64 values were rounded to float32, with a relative error of at most"
            f" {self.error:.1e}"
        )
