"""Changing what a cache says of itself."""

import h5py
import numpy as np

from frostline.features.cache.file.layout import METADATA
from frostline.features.cache.file.mapped import checksum


def rewrite_check(path, check):
    """Record another comparison with the reference in a cache file."""
    with h5py.File(path, "r+") as file:
        file.attrs["check"] = np.bytes_(check.to_json())


def rewrite_as_version_1(path):
    """Change a cache file, finished or not, to the first version of the format: without checksums of the timing."""
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = np.int64(1)
        size = int(file.attrs["block_rows"])
        for block in np.flatnonzero(file["blocks"][:, -1]):
            rows = slice(block * size, (block + 1) * size)
            file["blocks"][block, -1] = checksum(*(file[name][rows].tobytes() for name in METADATA))
