"""Structure of JPEGs: the scans that hold their compressed pixels."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

HUFFMAN: Final = frozenset({0xC0, 0xC1, 0xC2})
"""Markers of frames that are coded by codes of whole bits."""

MARKER: Final = re.compile(rb"\xff+([^\0\xff])")
RESTART: Final = re.compile(rb"\xff([\xd0-\xd7])")

_SCAN_END = re.compile(rb"\xff[^\0\xff\xd0-\xd7]")
_ARITHMETIC = {0xC9, 0xCA}
_METADATA = {*range(0xE0, 0xF0), 0xFE}
_DHT, _SOS, _EOI, _DRI = 0xC4, 0xDA, 0xD9, 0xDD
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without content
_OTHERS = 0x10  # number of the first table of codes for other coefficients than the first


@dataclass(frozen=True)
class Frame:
    """Header of a JPEG.

    Attributes:
        stop: End of the header.
        process: Marker of the header, which tells how the pixels are coded.
        width: Width in pixels.
        height: Height in pixels.
        sampling: Horizontal and vertical sampling by number of the component.
    """

    stop: int
    process: int
    width: int
    height: int
    sampling: Mapping[int, tuple[int, int]]

    def grid(self, components: Sequence[int]) -> tuple[int, int, int]:
        """Return columns and rows of the units of a scan, which its restart intervals count, and blocks per unit."""
        widest, highest = (max(sizes) for sizes in zip(*self.sampling.values(), strict=True))
        if len(components) == 1:
            across, down = self.sampling[components[0]]
            wide, high = -(-self.width * across // widest), -(-self.height * down // highest)
            return -(-wide // 8), -(-high // 8), 1
        blocks = sum(across * down for across, down in map(self.sampling.__getitem__, components))
        return -(-self.width // (8 * widest)), -(-self.height // (8 * highest)), blocks


@dataclass(frozen=True)
class Scan:
    """One scan of a JPEG.

    Attributes:
        components: Numbers of the components.
        band: Its first coefficient, and one more than the last.
        high: The lowest bit that earlier scans hold; 0 if there are none.
        low: The lowest bit that this scan holds.
        start: Position of its compressed data.
        stop: End of its compressed data: position of the next marker other than a restart marker.
        interval: Units between restart markers; 0 for no markers.
        of_zeros: Symbols whose codes consist of zeros, in the tables of its components for other coefficients than the
            first.
    """

    components: tuple[int, ...]
    band: tuple[int, int]
    high: int
    low: int
    start: int
    stop: int
    interval: int
    of_zeros: tuple[int, ...]


@dataclass(frozen=True)
class Structure:
    """Parts of the first picture of a JPEG.

    Attributes:
        frame: Its header.
        scans: Its scans.
        tables: Start and end of the segments on which pixels depend, such as tables of codes.
        metadata: Start and end of the application segments and comments.
    """

    frame: Frame
    scans: tuple[Scan, ...]
    tables: tuple[range, ...]
    metadata: tuple[range, ...]


def read_structure(data: bytes) -> Structure | None:
    """Return the parts of the first picture of a JPEG; None for a layout that only libjpeg understands."""
    frame: Frame | None = None
    scans: list[Scan] = []
    segments: tuple[list[range], list[range]] = ([], [])
    of_zeros: dict[int, int] = {}
    interval = 0
    try:
        for marker, start, stop in _segments(data):
            content = data[start:stop]
            segments[marker in _METADATA].append(range(start, stop))
            if marker in HUFFMAN | _ARITHMETIC:
                frame = _frame(marker, content, stop)
            elif marker == _DRI:
                interval = int.from_bytes(content[:2])
            elif marker == _DHT:
                of_zeros |= _first_symbols(content)
            elif marker == _SOS:
                scans.append(_scan(data, content, stop, interval, of_zeros))
    except (IndexError, ValueError):
        return None
    if frame is None or not all(map(all, frame.sampling.values())):
        return None
    if not all(scan.components and set(scan.components) <= set(frame.sampling) for scan in scans):
        return None
    return Structure(frame, tuple(scans), *map(tuple, segments))


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the markers of a JPEG with start and end of their contents."""
    position = 2
    while (found := MARKER.search(data, position)) and found[1][0] != _EOI:
        marker, position = found[1][0], found.end()
        if marker in _ALONE:
            continue
        start, position = position + 2, position + int.from_bytes(data[position : position + 2])
        yield marker, start, position
        if marker == _SOS:
            position = _scan_end(data, position)


def _scan_end(data: bytes, start: int) -> int:
    found = _SCAN_END.search(data, start)
    return found.start() if found else len(data)


def _frame(process: int, header: bytes, stop: int) -> Frame:
    components = range(6, 6 + 3 * header[5], 3)
    return Frame(
        stop=stop,
        process=process,
        width=int.from_bytes(header[3:5]),
        height=int.from_bytes(header[1:3]),
        sampling={header[at]: divmod(header[at + 1], 16) for at in components},
    )


def _scan(data: bytes, header: bytes, start: int, interval: int, of_zeros: Mapping[int, int]) -> Scan:
    behind = 1 + 2 * header[0]
    first, last, bits = header[behind : behind + 3]
    tables = (_OTHERS | (table & 15) for table in header[2:behind:2])
    return Scan(
        components=tuple(header[1:behind:2]),
        band=(first, last + 1),
        high=bits >> 4,
        low=bits & 15,
        start=start,
        stop=_scan_end(data, start),
        interval=interval,
        of_zeros=tuple(of_zeros[table] for table in tables if table in of_zeros),
    )


def _first_symbols(content: bytes) -> dict[int, int]:
    """Return the symbol of the code of zeros by table, for the tables of a segment: it comes first in each."""
    found, position = {}, 0
    while position + 17 < len(content):
        found[content[position]] = content[position + 17]
        position += 17 + sum(content[position + 1 : position + 17])
    return found
