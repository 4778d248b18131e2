"""Side columns as features: standardised numbers, and categories as one number each."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.errors import HeadError

CATEGORY: Final = ":category"
"""End of the name of a numeric column whose numbers stand for categories."""

_MOST_VALUES = 1000  # categories of a column; one with more is a name or a text


@dataclass(frozen=True)
class EncodedColumn:
    """Encoding of a side column, fitted on training rows.

    Attributes:
        name: Name of the column.
        mean: Mean of a number.
        deviation: Standard deviation of a number.
        values: Categories of a text, sorted; empty for a number.
    """

    name: str
    mean: float = 0.0
    deviation: float = 1.0
    values: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not math.isfinite(self.mean) or not 0 < self.deviation < math.inf:
            raise ValueError(
                f"column {self.name!r}: expected a mean and a positive deviation, they are {self.mean} and {self.deviation}"
            )
        if len({*self.values}) < len(self.values):
            raise ValueError(f"column {self.name!r}: expected different values, they are {self.values}")

    @property
    def width(self) -> int:
        """Number of features."""
        return len(self.values) or 1

    def encode(self, cells: NDArray[Any]) -> NDArray[np.float32]:
        """Return (n, width) float32 features of (n,) float64 numbers, NaN if missing, or (n,) str, "" if missing.

        A missing number is the mean, so 0; a missing or unknown category is 0 in every feature.

        Raises:
            HeadError: The cells are text, and the column was numeric in training.
        """
        if self.values:
            known = np.array(self.values)
            return np.asarray(_texts(cells)[:, None] == known[None, :], np.float32)
        self.check(cells)
        scaled = (cells - self.mean) / self.deviation
        return np.where(np.isfinite(scaled), scaled, 0).astype(np.float32)[:, None]

    def check(self, cells: NDArray[Any]) -> None:
        """Raise `HeadError` if cells are text, and the column was numeric in training."""
        if not self.values and cells.dtype.kind != "f":
            raise HeadError(
                f"column {self.name!r} holds text here, such as {next(filter(None, cells.tolist()), '')!r}, and was numeric in"
                " training; expected numbers"
            )


@dataclass(frozen=True)
class ColumnEncoding:
    """Encodings of the side columns that a head reads after its features, in order."""

    columns: tuple[EncodedColumn, ...]

    @classmethod
    def fit(
        cls, table: Mapping[str, NDArray[Any]], rows: NDArray[np.int64], names: Sequence[str], where: str
    ) -> Self:
        """Fit the encoding of columns to training rows.

        Args:
            table: Side columns by name: (n,) float64, NaN if missing; or (n,) str, "" if missing.
            rows: (m,) training rows.
            names: Names of the columns; several may be joined by commas. ``name:category`` takes numbers for
                categories.
            where: Place named in error messages.

        Raises:
            HeadError: There is no such column, it is named twice, it has the same value in all rows or more than 1,000
                categories.
        """
        chosen = _chosen(table, names, where)
        return cls(tuple(_fit(name, table[name][rows], chosen[name], where) for name in chosen))

    @property
    def width(self) -> int:
        """Number of features of all columns."""
        return sum(column.width for column in self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(column.name for column in self.columns)

    def check(self, table: Mapping[str, NDArray[Any]], where: str) -> None:
        """Raise `HeadError` if a column is missing, or holds text in place of numbers."""
        missing = [name for name in self.names if name not in table]
        if missing:
            raise HeadError(
                f"{where}: has no column {', '.join(map(repr, missing))}, which the head reads beside the features; got"
                f" {', '.join(map(repr, table)) or 'no side columns'}. Name a table of the images that has them"
            )
        for column in self.columns:
            try:
                column.check(table[column.name])
            except HeadError as error:
                raise HeadError(f"{where}: {error}") from None

    def encode(self, table: Mapping[str, NDArray[Any]], rows: Any) -> NDArray[np.float32]:
        """Return (k, width) float32 features of some rows of a table; see `EncodedColumn.encode`."""
        return np.concatenate([column.encode(table[column.name][rows]) for column in self.columns], axis=1)


class EncodedRows:
    """Side columns (n, width) that are encoded when they are read.

    Args:
        table: Side columns by name.
        encoding: Encoding to apply.
        where: Place named in error messages.

    Raises:
        HeadError: A column is missing, or holds text in place of numbers.
    """

    def __init__(self, table: Mapping[str, NDArray[Any]], encoding: ColumnEncoding, where: str) -> None:
        encoding.check(table, where)
        self._table, self._encoding = table, encoding
        self.shape = (len(next(iter(table.values()))), encoding.width)
        self.dtype = np.dtype(np.float32)

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        """Return (k, width) encoded rows."""
        return self._encoding.encode(self._table, rows)


def _chosen(table: Mapping[str, NDArray[Any]], names: Sequence[str], where: str) -> dict[str, bool]:
    """Return whether each chosen column holds categories, by name."""
    found: dict[str, bool] = {}
    for part in names:
        for name in [part] if part in table else part.split(","):
            column = name.strip()
            is_category = column not in table and column.endswith(CATEGORY)
            column = column.removesuffix(CATEGORY) if is_category else column
            if column not in table:
                raise HeadError(
                    f"{where}: has no side column {column!r}; got {', '.join(map(repr, table)) or 'none'}. Side columns are"
                    " those of the manifest when the cache was extracted"
                )
            if column in found:
                raise HeadError(f"{where}: the side column {column!r} is named twice")
            found[column] = is_category or table[column].dtype.kind != "f"
    return found


def _fit(name: str, cells: NDArray[Any], is_category: bool, where: str) -> EncodedColumn:
    if is_category:
        values = tuple(value for value in np.unique(_texts(cells)).tolist() if value)
        if not 2 <= len(values) <= _MOST_VALUES:
            raise HeadError(
                f"{where}: the side column {name!r} has {len(values)} different values in the training rows, expected 2 to"
                f" {_MOST_VALUES}; choose another column"
            )
        return EncodedColumn(name, values=values)
    known = cells[np.isfinite(cells)]
    deviation = float(known.std()) if len(known) else 0.0
    if not 0 < deviation < math.inf:
        raise HeadError(
            f"{where}: the side column {name!r} has the same number in all training rows, or none; choose another column"
        )
    return EncodedColumn(name, float(known.mean()), deviation)


def _texts(cells: NDArray[Any]) -> NDArray[np.str_]:
    """Return cells as text; numbers as the shortest text of their float64, empty for NaN."""
    if cells.dtype.kind != "f":
        return cells
    return np.array(["" if math.isnan(value) else f"{value:.17g}" for value in cells.tolist()], np.str_)
