"""Damage in JPEGs that hold a long run of zeros, of which libjpeg makes grey or other pixels without an error.

A run within the compressed data of one scan is found by decoding the file again, see
`frostline.features.images.files.damage`. A longer one swallows restart markers or whole scans, and what follows fits
again; and a scan of a progressive JPEG may fall into step again behind a short one. So what such a file must hold is
counted as well, and zeros that no encoder writes are known by the table of codes.
"""

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from frostline.features.images.files.damage import RUN, ZEROS, Pixels, changed, description_of
from frostline.features.images.files.jpeg_scans import (
    HUFFMAN,
    MARKER,
    RESTART,
    Frame,
    Scan,
    Structure,
    read_structure,
)

_END: Final = b"\xff\xd9"
_SUSPECTS = 3  # runs of zeros to decode for: flat images have many, and each costs two more decodings
_COEFFICIENTS = 64
_SIXTEEN_ZEROS = 15 << 4  # symbol, of which a block holds at most three
_ENOUGH, _ONES = 64, 0.2  # bytes that show whether their bits vary, and the share of ones in such
_DIFFERENT = 32  # neighbouring blocks of different colours that make a flat area impossible


def jpeg_damage(data: bytes, scan: int, pixels: Pixels) -> str:
    """Return what is wrong with the compressed pixels of a JPEG; empty for nothing.

    Args:
        data: Bytes of the file.
        scan: Position after the header of the first scan.
        pixels: Function that decodes a file to the bytes of its pixels; None if it can't.
    """
    end = data.find(_END, scan)
    if end < 0:
        return "truncated JPEG (no end marker)"
    if data.find(ZEROS, 0, end) < 0:
        return ""
    structure = read_structure(data)
    if structure is None:
        return _undecoded(data, list(RUN.finditer(data, scan, end)), pixels)
    refining = [
        each for each in structure.scans if each.high and each.band == (0, 1) and _is_huffman(structure)
    ]
    zeros = [run for each in structure.scans if each not in refining for run in _runs(data, each)]
    return (
        _lost_header(data, end, structure)
        or _part_missing(data, end, structure)
        or _undecoded(data, zeros, pixels)
        or _lost_bits(data, structure.frame, refining, pixels)
    )


def _is_huffman(structure: Structure) -> bool:
    return structure.frame.process in HUFFMAN


def _runs(data: bytes, scan: Scan) -> list[re.Match[bytes]]:
    return list(RUN.finditer(data, scan.start, scan.stop))


def _lost_header(data: bytes, end: int, structure: Structure) -> str:
    """Return which zeros lie in tables of codes, or between segments and scans; empty for none."""
    known = [*structure.metadata, *(range(scan.start, scan.stop) for scan in structure.scans)]
    for run in RUN.finditer(data, 0, end):
        is_known = any(run.start() in part for part in known)
        is_behind = run.start() >= structure.frame.stop
        if not is_known and (is_behind or any(run.start() in table for table in structure.tables)):
            return f"a header or scan is missing, and {description_of(run)}"
    return ""


def _part_missing(data: bytes, end: int, structure: Structure) -> str:
    """Return which scans or restart markers are missing, or which zeros no encoder writes; empty for nothing."""
    frame, scans = structure.frame, structure.scans
    for scan in scans:
        if runs := _runs(data, scan):
            if scan.interval and not _has_restarts(data, frame, scan):
                return f"restart markers are missing, and {description_of(runs[0])}"
            if _is_huffman(structure) and _are_foreign_to(scan):
                return description_of(runs[0])
    if data.find(ZEROS, frame.stop, end) < 0 or _is_complete(frame, scans):  # zeros in metadata don't matter
        return ""
    return "scans are missing, and a part of the file is zeros"


def _has_restarts(data: bytes, frame: Frame, scan: Scan) -> bool:
    """Return whether the restart markers of a scan are in sequence, and as many as its units need."""
    numbers = [found[1][0] & 7 for found in RESTART.finditer(data, scan.start, scan.stop)]
    columns, rows, _ = frame.grid(scan.components)
    needed = -(-columns * rows // scan.interval) - 1
    return len(numbers) >= needed and numbers == [index % 8 for index in range(len(numbers))]


def _are_foreign_to(scan: Scan) -> bool:
    """Return whether no encoder writes 256 bytes of zeros into a scan.

    They repeat the symbol whose code is zeros, for more than one block. In a flat image this symbol ends a block. As a
    value it would make all coefficients of all blocks the same negative number.
    """
    return scan.band[1] > 1 and any(symbol & 15 or symbol == _SIXTEEN_ZEROS for symbol in scan.of_zeros)


def _is_complete(frame: Frame, scans: Sequence[Scan]) -> bool:
    """Return whether the scans hold all bits of all coefficients."""
    low = {component: [-1] * _COEFFICIENTS for component in frame.sampling}
    for scan in scans:
        for component in scan.components:
            for coefficient in range(*scan.band):
                if scan.high and low[component][coefficient] != scan.high:
                    return False
                low[component][coefficient] = scan.low
    return not any(map(any, low.values()))


def _undecoded(data: bytes, runs: Sequence[re.Match[bytes]], pixels: Pixels) -> str:
    """Return which zeros let libjpeg decode less than all compressed data, or want more; empty for none."""
    suspects: dict[int, re.Match[bytes]] = {}  # one before each marker
    for run in sorted(runs, key=lambda run: -len(run.group()))[:_SUSPECTS]:
        marker = MARKER.search(data, run.end())
        suspects.setdefault(marker.start() if marker else len(data), run)
    seen = pixels(data) if suspects else None
    for stop, run in suspects.items():
        # libjpeg skips bytes that are left over before a marker, and decodes grey if they end too early
        is_enough = pixels(data[:stop] + b"\x5a" * 4096 + data[stop:]) == seen
        if not is_enough or pixels(changed(data, stop)) == seen:
            return description_of(run)
    return ""


def _lost_bits(data: bytes, frame: Frame, scans: Sequence[Scan], pixels: Pixels) -> str:
    """Return which zeros replace bits of the mean colours of blocks; empty for none.

    A scan that refines these holds one bit a block and no codes, so nothing in it falls out of step. Its bits are zeros
    where neighbouring blocks are equal, or nearly everywhere if the pixels were decoded from a JPEG with twice the steps.

    Args:
        data: Bytes of the file.
        frame: Its header.
        scans: The scans of this kind.
        pixels: Function that decodes a file to the bytes of its pixels.
    """
    for scan in scans:
        run = RUN.search(data, scan.start, scan.stop)
        if run and _vary(data[scan.start : run.start()] + data[run.end() : scan.stop]):
            colours = _colours(frame, scan.components, pixels(data))[_units(data, frame, scan, run)]
            if np.any(np.abs(np.diff(colours, axis=0)) > 1, axis=1).sum() >= _DIFFERENT:
                return description_of(run)
    return ""


def _vary(data: bytes) -> bool:
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    return len(data) >= _ENOUGH and bool(bits.mean() > _ONES)


def _units(data: bytes, frame: Frame, scan: Scan, run: re.Match[bytes]) -> slice:
    """Return the units of a scan of one bit a block that a run of zeros covers."""
    restarts = [found.end() for found in RESTART.finditer(data, scan.start, run.start())]
    before = data[restarts[-1] if restarts else scan.start : run.start()].replace(b"\xff\0", b"\xff")
    blocks = frame.grid(scan.components)[2]
    start = len(restarts) * scan.interval + 8 * len(before) // blocks
    return slice(start, start + 8 * len(run.group()) // blocks)


def _colours(frame: Frame, components: Sequence[int], decoded: bytes | None) -> NDArray[np.int64]:
    """Return the mean colours of the units of a scan, in their order."""
    columns, rows, _ = frame.grid(components)
    values = np.frombuffer(decoded or b"", np.uint8).reshape(frame.height, frame.width, -1)
    bands = (Image.fromarray(values[..., band]) for band in range(values.shape[2]))
    means = [np.asarray(band.resize((columns, rows), Image.Resampling.BOX)) for band in bands]
    return np.stack(means, axis=2).reshape(columns * rows, -1).astype(np.int64)
