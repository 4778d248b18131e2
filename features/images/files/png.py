"""Damage in PNGs: Pillow decodes the pixels without a look at their checksums."""

import zlib
from collections.abc import Iterator
from typing import Final

PNG: Final = b"\x89PNG"
"""First bytes of a PNG."""

END_OF_PNG: Final = b"\0\0\0\0IEND\xaeB`\x82"
"""The last chunk of a PNG, with its length and checksum."""

_HEADER = 8
_PIXELS = b"IDAT"


def png_damage(data: bytes) -> str:
    """Return what is wrong with the pixels of the first picture of a PNG; empty for nothing.

    Pillow checks the chunks before the pixels itself. Chunks behind them, such as texts and the further pictures of an
    animation, don't matter, but the file must have an end.
    """
    content, stop, found = memoryview(data), _HEADER, False
    for kind, start, end in png_chunks(data):
        if kind == _PIXELS:
            found = True
            if zlib.crc32(content[start + 4 : end - 4]) != int.from_bytes(content[end - 4 : end]):
                return f"its pixels don't have their checksum (chunk IDAT at byte {start})"
        elif found:
            break
        stop = end
    return "" if data.find(END_OF_PNG, stop) >= 0 else "truncated PNG (no end marker)"


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of the chunks of a PNG, with length and checksum; the last may end behind the file."""
    start = _HEADER
    while start < len(data):
        end = start + 12 + int.from_bytes(data[start : start + 4])
        yield data[start + 4 : start + 8], start, end
        start = end
