"""Data frames of pandas and Polars as vectors, with columns that say something of the rows."""

from dataclasses import fields, replace
from typing import Any

import numpy as np

from frostline.features.cache.imported.rows import RowFacts
from frostline.features.errors import VectorsError
from frostline.features.sources.labels import listed

_ROLES = ("ids", "labels", "split", "groups")


def split_frame(X: Any, facts: RowFacts) -> tuple[Any, RowFacts]:
    """Return the numbers of a data frame, and the facts with the columns that they name in place of the names.

    What is no data frame is returned as it is.

    Raises:
        VectorsError: A named column is missing, or another one holds no numbers.
    """
    named = {role: value for role in _ROLES if isinstance(value := getattr(facts, role), str)}
    if not (hasattr(X, "columns") and hasattr(X, "to_numpy")):
        for role, name in named.items():
            raise VectorsError(
                f"{role}: got the text {name!r}, expected one value per row; a name is for data frames"
            )
        return X, facts
    columns = [*X.columns]
    taken = {}
    for role, name in named.items():
        if name not in columns:
            raise VectorsError(
                f"{role}: the data frame has no column {name!r}; it has {listed([*map(str, columns)])}"
            )
        taken[role] = X[name]
    numbers = [column for column in columns if column not in named.values()]
    other = [column for column in numbers if np.asarray(X[column].to_numpy()[:1]).dtype.kind not in "iufb"]
    if other or not numbers:
        raise VectorsError(
            f"X: the columns {listed([*map(str, other)]) or 'of numbers are missing'} hold no numbers; expected numbers, and"
            " the names of other columns as ids, labels, split or groups"
        )
    used = {role.removesuffix("s"): name for role, name in named.items()}
    kept = {each.name: getattr(facts, each.name) for each in fields(facts)}
    return X[numbers].to_numpy(), replace(facts, **{**kept, **taken, "columns": used})
