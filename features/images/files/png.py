"""Damage in PNGs: Pillow decodes the pixels without a look at their checksums."""

import struct
import zlib
from collections.abc import Iterator
from typing import Final

PNG: Final = b"\x89PNG"
"""First bytes of a PNG."""

END_OF_PNG: Final = b"\0\0\0\0IEND\xaeB`\x82"
"""The last chunk of a PNG, with its length and checksum."""

_HEADER = 8
_PIXELS = b"IDAT"
_LENGTH_AND_KIND, _CHECKSUM = struct.Struct(">I4s").unpack_from, struct.Struct(">I").unpack_from


def png_damage(data: bytes) -> str:
    """Return what is wrong with the pixels of the first picture of a PNG; empty for nothing.

    Pillow checks the chunks before the pixels itself. Chunks behind them, such as texts and the further pictures of an
    animation, don't matter, but the file must have an end.
    """
    start, last, found = _HEADER, len(data) - 12, False
    while start <= last:
        length, kind = _LENGTH_AND_KIND(data, start)
        end = start + 8 + length
        if kind == _PIXELS:
            found = True
            if (
                end + 4 > len(data)
                or zlib.crc32(memoryview(data)[start + 4 : end]) != _CHECKSUM(data, end)[0]
            ):
                return f"its pixels don't have their checksum (chunk IDAT at byte {start})"
        elif found:
            break
        start = end + 4
    return "" if data.find(END_OF_PNG, start) >= 0 else "truncated PNG (no end marker)"


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of the chunks of a PNG, with length and checksum; the last may end behind the file."""
    start = _HEADER
    while start < len(data):
        end = start + 12 + int.from_bytes(data[start : start + 4])
        yield data[start + 4 : start + 8], start, end
        start = end
