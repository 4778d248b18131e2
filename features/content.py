"""Digest of an image file's bytes, which identifies the image independently of its name."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CONTENT_BYTES = 16


def file_content(data: bytes) -> bytes:
    """Return the BLAKE2b digest of an image file's bytes: 128 bits, as 16 bytes."""
    return hashlib.blake2b(data, digest_size=CONTENT_BYTES, usedforsecurity=False).digest()


def as_rows(values: Sequence[bytes]) -> NDArray[np.uint8]:
    """Return byte strings of equal length, one or more, as the rows of a (k, length) uint8 array."""
    return np.frombuffer(bytearray().join(values), np.uint8).reshape(len(values), -1)


def as_keys(content: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """Return each digest as one sortable value, (k,). Byte strings are compared over all 16 bytes."""
    return np.ascontiguousarray(content).view(f"S{CONTENT_BYTES}")[:, 0]
