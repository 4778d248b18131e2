"""Digest of an image file's bytes, which identifies the image independently of its name."""

import hashlib

CONTENT_BYTES = 16


def file_content(data: bytes) -> bytes:
    """Return the BLAKE2b digest of an image file's bytes: 128 bits, as 16 bytes."""
    return hashlib.blake2b(data, digest_size=CONTENT_BYTES, usedforsecurity=False).digest()
