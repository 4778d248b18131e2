"""Image files without their texts, colour profiles and other data about the picture, which may be damaged."""

import zlib
from collections.abc import Callable, Mapping
from typing import Final

from frostline.features.images.files.png import END_OF_PNG, png_chunks

_XMP = b"XML:com.adobe.xmp"
_PNG_HEADER = 8
_JPEG_SCAN, _JPEG_END, _APP0, _APP14, _COMMENT = 0xDA, 0xD9, 0xE0, 0xEE, 0xFE
_WEBP_PIXELS = {b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF"}
_WEBP_METADATA = 0x2C  # flags of VP8X: colour profile, Exif, XMP


def _bare_png(data: bytes) -> bytes:
    """Keep the chunks that pixels depend on, and the orientation in sound Exif and XMP data."""
    kept, end = [data[:_PNG_HEADER]], END_OF_PNG if END_OF_PNG in data else b""
    for kind, start, stop in png_chunks(data):
        chunk = data[start:stop]
        oriented = kind == b"eXIf" or (kind == b"iTXt" and chunk[8:].startswith(_XMP))
        needed = kind[:1].isupper() and kind != b"IEND"
        if needed or (oriented and zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:])):
            kept.append(chunk)
    return b"".join([*kept, end])  # which a damaged length hides


def _bare_jpeg(data: bytes) -> bytes:
    """Drop the comments and application segments; those of JFIF and Adobe say what the colours are."""
    kept, position = [data[:2]], 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker in {_JPEG_SCAN, _JPEG_END}:
            break
        stop = position + 2 + int.from_bytes(data[position + 2 : position + 4])
        if not (_APP0 < marker <= 0xEF or marker == _COMMENT) or marker == _APP14:
            kept.append(data[position:stop])
        position = stop
    return b"".join([*kept, data[position:]])


def _bare_webp(data: bytes) -> bytes:
    """Keep the chunks of pixels and animation."""
    kept, position = [], 12
    while position + 8 <= len(data):
        stop = position + 8 + int.from_bytes(data[position + 4 : position + 8], "little")
        chunk = data[position : stop + stop % 2]
        if chunk[:4] in _WEBP_PIXELS:
            kept.append(chunk)
        position = stop + stop % 2
    if kept and kept[0].startswith(b"VP8X"):
        flags = kept[0][8] & ~_WEBP_METADATA
        kept[0] = kept[0][:8] + bytes([flags]) + kept[0][9:]
    body = b"WEBP" + b"".join(kept)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


_BARE: Final[Mapping[bytes, Callable[[bytes], bytes]]] = {
    b"\x89PNG": _bare_png,
    b"\xff\xd8\xff": _bare_jpeg,
    b"RIFF": _bare_webp,
}


def without_metadata(data: bytes) -> bytes:
    """Return a PNG, JPEG or WebP with little but its pixels; any other file unchanged.

    No part of the pixels is repaired: a file with damaged pixels stays one.
    """
    for signature, bare in _BARE.items():
        if data.startswith(signature):
            return bare(data)
    return data
