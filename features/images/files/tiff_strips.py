"""Damage in the compressed strips and tiles of TIFFs that hold a long run of zeros.

libtiff decodes a strip until its rows are full, and looks at no checksum. It notices a strip that ends too early.
"""

import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from PIL import TiffImagePlugin

from frostline.features.images.files.damage import RUN, ZEROS, decoded
from frostline.features.images.files.jpeg import jpeg_damage
from frostline.features.images.files.jpeg_scans import read_structure

_COMPRESSION, _JPEG_TABLES = 259, 347
_STRIPS, _TILES = (273, 279), (324, 325)  # tags of positions and lengths
_END_OF_JPEG = b"\xff\xd9"
_PART = 1 << 20  # bytes that are decompressed at once
_NARROW = 16  # pixels of a row that PackBits may write as one byte, behind a zero


def tiff_damage(image: TiffImagePlugin.TiffImageFile, data: bytes) -> str:
    """Return which compressed strip of the first picture of a TIFF is damaged by zeros; empty for none.

    Args:
        image: The image, in which the tags are read.
        data: Bytes of its file.
    """
    tags = image.tag_v2
    is_damaged = _CHECKS.get(int(tags.get(_COMPRESSION, 1)))
    if is_damaged is None:
        return ""
    if tags.get(_JPEG_TABLES, _END_OF_JPEG).endswith(b"\0"):
        return "its tables of codes are cut"
    if data.find(ZEROS) < 0:
        return ""
    positions, lengths = _STRIPS if _STRIPS[0] in tags else _TILES
    for start, length in zip(tags.get(positions, ()), tags.get(lengths, ()), strict=False):
        if (run := RUN.search(data, start, start + length)) and is_damaged(
            data[start : start + length], tags
        ):
            return f"{len(run.group())} bytes of its compressed pixels are zeros, from byte {run.start()} on"
    return ""


def left_out(image: Any) -> str:
    """Return how much of a TIFF its strips and tiles leave out, which Pillow shows as black; empty for nothing."""
    width, height = int(image.tag_v2[256]), int(image.tag_v2[257])  # as stored, before it is turned
    parts = [part.extents or (0, 0, width, height) for part in image.tile]
    found = sum((min(right, width) - left) * (min(low, height) - top) for left, top, right, low in parts)
    missing = width * height - found
    return f"its strips hold {found} of {width * height} pixels" if parts and missing > 0 else ""


def _is_wrong_deflate(strip: bytes, _: Any) -> bool:
    """Return whether a strip is not made of codes, or does not end with its checksum."""
    stream = zlib.decompressobj()
    try:
        while strip and not stream.eof:
            stream.decompress(strip, _PART)
            strip = stream.unconsumed_tail
    except zlib.error:
        return True
    return not stream.eof


def _is_wrong_pack_bits(_: bytes, tags: Any) -> bool:
    """Return whether zeros are no codes: a pair of them stands for one byte, and two equal bytes are written as a run."""
    return bool(tags.get(256, 0) >= _NARROW)


def _is_wrong_jpeg(strip: bytes, tags: Any) -> bool:
    """Return whether a strip is a damaged JPEG, whose tables may lie in a tag."""
    tables = tags.get(_JPEG_TABLES, b"")
    whole = tables[:-2] + strip[2:] if tables else strip
    structure = read_structure(whole)
    if structure is None or not structure.scans or _END_OF_JPEG not in strip:
        return False  # of a layout that only libtiff understands
    return bool(jpeg_damage(whole, structure.scans[0].start, _pixels))


def _pixels(data: bytes) -> bytes | None:
    return decoded(data, ("JPEG",))


_CHECKS: Final[Mapping[int, Callable[[bytes, Any], bool]]] = {
    7: _is_wrong_jpeg,
    8: _is_wrong_deflate,
    32773: _is_wrong_pack_bits,
    32946: _is_wrong_deflate,
}
