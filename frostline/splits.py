"""The splits of a data set, under the codes by which tables, caches and arrays name them."""

from enum import IntEnum
from typing import Final


class Split(IntEnum):
    """What a row is for."""

    NONE = 0
    """Nothing: it has no label, can't be read, or is left over."""
    TRAIN = 1
    """Fitting heads and networks."""
    VAL = 2
    """Choosing between them, and calibrating probabilities."""
    TEST = 3
    """Scoring the one that was chosen."""


SPLIT_NAMES: Final = tuple(split.name.lower() for split in Split)
"""Name of each split in messages and reports, by code."""

SPLITS: Final = ("", *SPLIT_NAMES[1:])
"""Name of each split as data sets declare it, by code; empty for none."""
