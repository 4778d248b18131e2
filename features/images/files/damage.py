"""Signs that the pixels of an image are not whole, where Pillow decodes the rest of them as grey or black.

A broken download and a failing disk leave a file that is cut, or that holds zeros from some byte on. Compressed
pixels hardly ever contain a long run of zeros; the exceptions are flat areas. Only files with such a run are decoded
again, with some bytes of the compressed pixels changed: in a sound file all compressed bytes matter, up to the last.
"""

import io
import re
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ZEROS: Final = bytes(256)
"""Run of zeros that tells of damage: a disk or a download loses at least this much."""

RUN: Final = re.compile(rb"\0{256,}")
"""Such a run, as long as it is."""

_ANY = re.compile(rb"\0+")

_TAIL = 16  # bytes that hold the last pixels, and not only padding
_ROWS = 8  # fewer black rows than this may be a border
_DENSE = 0.9  # share of the pixels of a row in a photo that are not black
_SHADES = 16  # fewer values than this in a row are a drawing or a mask, which may end anywhere

Pixels = Callable[[bytes], bytes | None]
"""Function that decodes a file to the bytes of its pixels; None if it can't."""


def holds_zeros(data: bytes) -> bool:
    """Return whether a file holds a run of zeros, or ends in zeros, so that a part of its pixels may be lost."""
    return data.find(ZEROS) >= 0 or data.endswith(bytes(_TAIL))


def webp_damage(data: bytes, pixels: Pixels) -> str:
    """Return what is wrong with the compressed pixels of a WebP; empty for nothing."""
    for start, stop in _webp_pixels(data) if holds_zeros(data) else ():
        found = list(RUN.finditer(data, start, stop)) or _last_zeros(data, start, stop)
        if found and pixels(changed(data, stop)) == pixels(data):
            return description_of(max(found, key=lambda run: len(run.group())))
    return ""


def _last_zeros(data: bytes, start: int, stop: int) -> list[re.Match[bytes]]:
    """Return the run of zeros before `stop`, if it is longer than a coder writes to fill its last bytes."""
    first = start + len(data[start:stop].rstrip(b"\0"))
    run = _ANY.match(data, first, stop) if stop - first >= _TAIL else None
    return [run] if run else []


def _webp_pixels(data: bytes) -> list[tuple[int, int]]:
    """Return start and end of the compressed pixels of the first frame."""
    position = 12
    found: list[tuple[int, int]] = []
    while position + 8 <= len(data) and not found:
        kind, size = (
            data[position : position + 4],
            int.from_bytes(data[position + 4 : position + 8], "little"),
        )
        if kind in {b"VP8 ", b"VP8L"}:
            found.append((position + 8, min(position + 8 + size, len(data))))
        position += 24 if kind == b"ANMF" else 8 + size + size % 2  # a frame of an animation holds chunks
    return found


def avif_damage(data: bytes, pixels: Pixels) -> str:
    """Return what is wrong with the compressed pixels of an AVIF; empty for nothing.

    Its arithmetic coder never writes a long run of zeros. Other parts of the file may hold one, but no pixel depends
    on them.
    """
    if not holds_zeros(data):
        return ""
    seen = pixels(data)
    for run in list(RUN.finditer(data)) or _last_zeros(data, 0, len(data)):
        if pixels(data[: run.start()] + b"\x5a" * len(run.group()) + data[run.end() :]) != seen:
            return description_of(run)
    return ""


def gif_damage(data: bytes) -> str:
    """Return what is wrong with the compressed pixels of the first picture of a GIF; empty for nothing.

    They lie in blocks of up to 255 bytes, each behind its length, so a long run of zeros ends them.
    """
    if data.find(ZEROS) < 0:
        return ""
    position = 13 + _colours(data[10:11])
    while data[position : position + 1] == b"!":  # extensions
        position = _blocks_end(data, position + 2) + 1
    start = position + 11 + _colours(data[position + 9 : position + 10])
    end = _blocks_end(data, start)
    return next((description_of(run) for run in RUN.finditer(data, start) if end in range(*run.span())), "")


def _colours(flags: bytes) -> int:
    """Return the bytes of the colour table of a GIF that flags announce."""
    return 3 * (2 << (flags[0] & 7)) if flags and flags[0] & 0x80 else 0


def _blocks_end(data: bytes, position: int) -> int:
    """Return the position of the zero length that ends the blocks of a GIF, or the end of the file."""
    while position < len(data) and data[position]:
        position += 1 + data[position]
    return position


def changed(data: bytes, stop: int) -> bytes:
    """Return the file with the last compressed bytes before `stop` changed, without a marker of JPEG among them."""
    tail = bytes(0x2A if byte ^ 0x55 == 0xFF else byte ^ 0x55 for byte in data[stop - _TAIL : stop])
    before = data[: stop - _TAIL]
    return before + (b"\0" + tail[1:] if before.endswith(b"\xff") else tail) + data[stop:]


def description_of(run: re.Match[bytes]) -> str:
    """Return a description of a run of zeros."""
    return f"{len(run.group())} bytes of its pixels are zeros, from byte {run.start()} on"


def is_torn(values: NDArray[Any], *, upwards: bool) -> bool:
    """Return whether a row of uncompressed pixels ends in its middle, and black rows follow.

    The row must look like a photo, and the row before it must not be black where this one is, so that neither a mask
    nor a dark background is taken for damage. Zeros that begin with a row can't be told from a black border.

    Args:
        values: (H, W) or (H, W, C) pixels as stored, zero where bytes are lost.
        upwards: Whether rows may also be stored from the bottom to the top.
    """
    filled = np.any(values.reshape(*values.shape[:2], -1), axis=2)
    rows = np.any(filled, axis=1)
    if rows.all():
        return False
    return _is_torn(values, filled, rows) or (upwards and _is_torn(values[::-1], filled[::-1], rows[::-1]))


def _is_torn(values: NDArray[Any], filled: NDArray[np.bool_], rows: NDArray[np.bool_]) -> bool:
    for row in np.flatnonzero(rows[1:-_ROWS]) + 1:
        if rows[row + 1 : row + 1 + _ROWS].any():
            continue
        stop = int(np.flatnonzero(filled[row])[-1]) + 1
        here, above = filled[row, :stop], filled[row - 1, stop:]
        is_dense = len(above) > _ROWS and min(here.mean(), above.mean(), filled[row - 1].mean()) >= _DENSE
        if is_dense and len(np.unique(values[row, :stop])) >= _SHADES:
            return True
    return False


def decoded(data: bytes, formats: tuple[str, ...]) -> bytes | None:
    """Decode an image to the bytes of its pixels; return None if it can't be decoded."""
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            return image.tobytes()
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  # a damaged file can raise nearly anything from within Pillow's plugins
        return None
