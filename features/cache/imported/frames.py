"""Data frames of pandas and Polars as vectors, with columns that say something of the rows."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from frostline.features.cache.imported.rows import RowFacts
from frostline.features.errors import VectorsError
from frostline.features.sources.labels import listed

_ROLES = ("ids", "labels", "split", "groups")


def split_frame(
    X: Any, facts: RowFacts, columns: Mapping[str, Any] | Sequence[str] = ()
) -> tuple[Any, RowFacts]:
    """Return the numbers of a data frame, and the facts with the columns that they name in place of the names.

    What is no data frame is returned as it is.

    Args:
        X: What may be a data frame.
        facts: What is known of its rows.
        columns: Values of the side columns by name, or names of columns of the data frame.

    Raises:
        VectorsError: A named column is missing, or another one holds no numbers.
    """
    named = {role: value for role in _ROLES if isinstance(value := getattr(facts, role), str)}
    side: Sequence[str] = () if isinstance(columns, Mapping) else columns
    given = columns if isinstance(columns, Mapping) else {}
    chosen = [*named.items(), *(("columns", name) for name in side)]
    if not (hasattr(X, "columns") and hasattr(X, "to_numpy")):
        for role, name in chosen:
            raise VectorsError(
                f"{role}: got the text {name!r}, expected one value per row; a name is for data frames"
            )
        return X, replace(facts, side=given)
    header = [*X.columns]
    for role, name in chosen:
        if name not in header:
            raise VectorsError(
                f"{role}: the data frame has no column {name!r}; it has {listed([*map(str, header)])}"
            )
    taken = {role: X[name] for role, name in named.items()}
    beside = {**given, **{name: X[name] for name in side}}
    numbers = [column for column in header if column not in {*named.values(), *side}]
    other = [column for column in numbers if np.asarray(X[column].to_numpy()[:1]).dtype.kind not in "iufb"]
    if other or not numbers:
        raise VectorsError(
            f"X: the columns {listed([*map(str, other)]) or 'of numbers are missing'} hold no numbers; expected numbers, and"
            " the names of other columns as ids, labels, split, groups or columns"
        )
    used = {role.removesuffix("s"): name for role, name in named.items()}
    kept = {each.name: getattr(facts, each.name) for each in fields(facts)}
    return X[numbers].to_numpy(), replace(facts, **{**kept, **taken, "columns": used, "side": beside})
