"""Manifests as text: CSV and TSV."""

import codecs
import csv
from collections.abc import Iterator, Mapping
from typing import TextIO

from frostline.csv_cells import from_cell
from frostline.features.errors import SourceError
from frostline.features.sources.manifests.columns import find_columns
from frostline.features.sources.manifests.sheet import Sheet, side_names
from frostline.system.files import open_regular

_LONGEST = 1 << 20  # characters of a line


def read_text(file: str, chosen: Mapping[str, str | None]) -> Sheet:
    """Read the columns of a CSV file, or of a TSV file if its name ends in ``.tsv``.

    Args:
        file: Path of the file, UTF-8 text with or without a byte-order mark.
        chosen: Column by role; see `columns.find_columns`.

    Raises:
        OSError: The file can't be read.
        SourceError: The file is not such a table, or lacks a column.
    """
    delimiter = "\t" if file.lower().endswith(".tsv") else ","
    with open(open_regular(file), encoding="utf-8-sig", newline="") as stream:  # noqa: PTH123  # a descriptor
        reader = csv.reader(bounded_lines(stream, file), delimiter=delimiter, strict=True)
        try:
            header = [from_cell(cell) for cell in next(reader, [])]
            wanted = find_columns(header, chosen, f"{file}, line 1")
            side = side_names(header, wanted.values())
            needed = [*wanted.values(), *side.values()]
            lines, rows = [], []
            for cells in reader:
                if not cells:  # a blank line
                    continue
                if len(cells) != len(header):
                    raise SourceError(
                        f"{file}, line {reader.line_num}: got {len(cells)} cells, expected {len(header)}"
                        f" ({delimiter.join(header)}); a path or label that contains {delimiter!r} must be quoted"
                    )
                lines.append(reader.line_num)
                rows.append([from_cell(cells[index]) for index in needed])
        except csv.Error as error:
            raise SourceError(
                f"{file}, line {reader.line_num}: {error}; expected quoting as in RFC 4180"
            ) from error
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            is_utf_16 = error.object[:2] in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE} and not reader.line_num
            raise SourceError(
                f"{file} is UTF-16 text; save the file as UTF-8"
                if is_utf_16
                else f"{file}, after line {reader.line_num}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8"
            ) from error
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(needed)
    taken = dict(zip(wanted, columns[: len(wanted)], strict=True))
    return Sheet(
        file, header, wanted, taken, lines, "line", dict(zip(side, columns[len(wanted) :], strict=True))
    )


def bounded_lines(stream: TextIO, file: str) -> Iterator[str]:
    """Yield the lines of a text file, none of which is read if it can't be the line of a manifest."""
    number = 0
    while line := stream.readline(_LONGEST):
        number += 1
        if len(line) == _LONGEST and not line.endswith("\n"):
            raise SourceError(
                f"{file}, line {number}: is longer than {_LONGEST:,} characters; expected a table as text, one image per line"
            )
        yield line
