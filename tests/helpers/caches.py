"""Changing what a cache says of itself."""

import h5py
import numpy as np


def rewrite_check(path, check):
    """Record another comparison with the reference in a cache file."""
    with h5py.File(path, "r+") as file:
        file.attrs["check"] = np.bytes_(check.to_json())
