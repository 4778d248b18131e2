"""Splits of a data set and their integer codes in tables, caches and arrays."""

from enum import IntEnum
from typing import Final


class Split(IntEnum):
    """Split of a row."""

    NONE = 0
    """Unused: the row has no label, is unreadable, or is not assigned to a split."""
    TRAIN = 1
    """Training of heads and networks."""
    VAL = 2
    """Model selection and calibration of probabilities."""
    TEST = 3
    """Final evaluation of the selected model."""


SPLIT_NAMES: Final = tuple(split.name.lower() for split in Split)
"""Name of each split in messages and reports, by code."""

SPLITS: Final = ("", *SPLIT_NAMES[1:])
"""Name of each split as data sets declare it, by code; empty for none."""
