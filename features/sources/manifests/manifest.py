"""Manifests: CSV, TSV or Parquet tables of ``path,label[,split][,group]``, one image per row."""

import codecs
import csv
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, TextIO

from frostline.csv_cells import from_cell
from frostline.features.errors import SourceError
from frostline.features.notes import SourceNotes
from frostline.features.sources.disk_names import DiskNames, may_differ, on_disk
from frostline.features.sources.files import FileSource, absolute, make_table
from frostline.features.sources.kinds import SourceKind
from frostline.features.sources.labels import composed, plain_numbers
from frostline.features.sources.manifests.columns import ROLES, column_remarks, find_columns
from frostline.features.sources.split_names import SPLIT_CODES
from frostline.features.sources.stats import UNREADABLE, Stat, file_stat, file_stats
from frostline.splits import Split
from frostline.system.files import check_regular, open_regular

MANIFEST_SUFFIXES = (".csv", ".tsv", ".parquet")
"""Ends of the names of manifests, in lower case."""

_NEEDLESS = re.compile(r"(^|/)(\./|\.?$|/)")
_LONGEST = 1 << 20  # characters of a line
_SHOWN = 80  # characters of the type of a column


@dataclass(frozen=True)
class _Sheet:
    """Columns of a manifest as text, with the position of each row in the file."""

    file: str
    header: Sequence[str]
    taken: Mapping[str, int]  # index of the column of each role that the manifest has; path is always there
    columns: Mapping[str, Sequence[str]]  # by role
    lines: Sequence[int]
    unit: str  # unit of lines: "line" or "row"

    def at(self, row: int, role: str = "") -> str:
        """Return the place of a row, and of its cell in the column of a role, for messages."""
        return _place(self.file, self.unit, self.lines[row], self.header[self.taken[role]] if role else "")

    def column(self, role: str) -> Sequence[str]:
        return self.columns.get(role) or [""] * len(self.lines)

    def notes(self, remarks: Sequence[str]) -> SourceNotes:
        """Return which columns were taken, with remarks."""
        used = {role: self.header[index] for role, index in self.taken.items()}
        unused = (name for index, name in enumerate(self.header) if index not in self.taken.values())
        return SourceNotes(columns=used, unused_columns=tuple(unused), remarks=tuple(remarks))


def open_manifest(
    root: str,
    *,
    path_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
) -> FileSource:
    """List the images of a manifest.

    Paths are absolute, or relative to the manifest's folder. They may point outside that folder, have back-slashes,
    and be in another Unicode form than on disk. A row whose file is missing is kept and recorded as an unreadable
    image. Labels are the text that was written, without surrounding blanks; if all are integers, the classes are
    sorted by value.

    Args:
        root: Path of a file that ends in ``.csv``, ``.tsv`` or ``.parquet``.
        path_column: Column of the paths; by default ``path``.
        label_column: Column of the labels, ``none`` for unlabelled images; by default ``label``.
        split_column: Column of the splits, ``none`` for no splits; by default ``split``.
        group_column: Column of the groups, ``none`` for no groups; by default ``group``.

    Raises:
        SourceError: The table can't be read, a row is not valid, or none of the files exists.
    """
    root = absolute(root)
    chosen = dict(zip(ROLES, (path_column, label_column, split_column, group_column), strict=True))
    sheet = _read_parquet(root, chosen) if root.lower().endswith(".parquet") else _read_text(root, chosen)
    if not sheet.lines:
        raise SourceError(f"{root}: the manifest lists no image; expected rows of path,label[,split][,group]")
    folder = os.path.dirname(root)  # noqa: PTH120  # ids are strings
    files = _find_files(sheet, folder)
    if all(stat == UNREADABLE for stat in files.values()):
        first = Path(folder, next(iter(files)))
        raise SourceError(
            f"{root}: none of its {len(files)} files exists; {sheet.at(0)} points to {str(first)!r}."
            " Expected absolute paths, or paths relative to the manifest's folder."
        )
    labels, remarks = _labels(sheet.column("label"))
    table, changed = make_table(
        list(files),
        list(files.values()),
        labels=labels,
        split=_splits(sheet),
        groups=[group.strip() for group in sheet.column("group")],
        where=root,
    )
    return FileSource(
        root,
        table,
        changed,
        folder=folder,
        notes=sheet.notes([*column_remarks(sheet.header, chosen, sheet.taken), *remarks]),
    )


MANIFEST = SourceKind(
    f"a manifest ending in {', '.join(MANIFEST_SUFFIXES)}",
    lambda path: path.lower().endswith(MANIFEST_SUFFIXES) and Path(path).exists(),
    open_manifest,
    lambda root, id_: Path(on_disk(os.path.join(os.path.dirname(root), id_))),  # noqa: PTH118, PTH120
    options=("path_column", "label_column", "split_column", "group_column"),
)


def _find_files(sheet: _Sheet, folder: str) -> dict[str, Stat]:
    """Return the stat of each file by id: its path as on disk, or as written if it is missing."""
    names = DiskNames()
    ids = [_id(cell, sheet, row) for row, cell in enumerate(sheet.columns["path"])]
    seen: dict[str, int] = {}  # by path without "." and ".."
    stats = {}
    found_stats = file_stats([os.path.join(folder, id_) for id_ in ids])  # noqa: PTH118  # ids are strings
    for row, (id_, stat) in enumerate(zip(ids, found_stats, strict=True)):
        if stat == UNREADABLE and may_differ(id_) and (found := names.find(folder, id_)):
            id_, stat = found, file_stat(os.path.join(folder, found))  # noqa: PLW2901, PTH118
        if (first := seen.setdefault(_spelt_once(folder, id_), row)) != row:
            raise SourceError(
                f"{sheet.at(row, 'path')}: {sheet.columns['path'][row]!r} is already in {sheet.unit} {sheet.lines[first]};"
                " expected each image once"
            )
        stats[id_] = stat
    return stats


def _id(cell: str, sheet: _Sheet, row: int) -> str:
    """Return the path in a cell with forward slashes, and without needless slashes and dots."""
    if not cell.strip() or "\0" in cell:
        raise SourceError(f"{sheet.at(row, 'path')}: got {cell!r}; expected an image file's path")
    # Parsing takes longer than reading the file's stat, and most paths are written as they would be afterwards.
    return PurePath(cell).as_posix() if os.name == "nt" or _NEEDLESS.search(cell) else cell


def _spelt_once(folder: str, id_: str) -> str:
    """Return the absolute path of an id without ``..``, so that two spellings of one path are equal."""
    if id_.startswith("/") or ".." in id_:
        return os.path.normpath(os.path.join(folder, id_))  # noqa: PTH118  # strings, as ids are
    return f"{folder}/{id_}"


def _labels(cells: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the labels, and remarks on those that are not exactly as written."""
    stripped = [cell.strip() for cell in cells]
    blanks = sum(cell != label for cell, label in zip(cells, stripped, strict=True))
    labels, remarks = composed(plain_numbers(stripped))
    return labels, [
        *remarks,
        *([f"{blanks} label(s) had surrounding blanks, which are dropped"] * (blanks > 0)),
    ]


def _splits(sheet: _Sheet) -> list[Split]:
    codes = []
    for row, cell in enumerate(sheet.column("split")):
        name = cell.strip().lower()
        if name and name not in SPLIT_CODES:
            raise SourceError(
                f"{sheet.at(row, 'split')}: got {cell!r}; expected {', '.join(SPLIT_CODES)}, or nothing"
            )
        codes.append(SPLIT_CODES.get(name, Split.NONE))
    return codes


def _read_text(file: str, chosen: Mapping[str, str | None]) -> _Sheet:
    delimiter = "\t" if file.lower().endswith(".tsv") else ","
    with open(open_regular(file), encoding="utf-8-sig", newline="") as stream:  # noqa: PTH123  # a descriptor
        reader = csv.reader(_lines(stream, file), delimiter=delimiter, strict=True)
        try:
            header = next(reader, [])
            wanted = find_columns(header, chosen, f"{file}, line 1")
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
                rows.append([from_cell(cells[index]) for index in wanted.values()])
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
    columns = zip(*rows, strict=True) if rows else ([] for _ in wanted)
    return _Sheet(file, header, wanted, dict(zip(wanted, columns, strict=True)), lines, "line")


def _lines(stream: TextIO, file: str) -> Iterator[str]:
    """Yield the lines of a text file, none of which is read if it can't be the line of a manifest."""
    number = 0
    while line := stream.readline(_LONGEST):
        number += 1
        if len(line) == _LONGEST and not line.endswith("\n"):
            raise SourceError(
                f"{file}, line {number}: is longer than {_LONGEST:,} characters; expected a table as text, one image per line"
            )
        yield line


def _read_parquet(file: str, chosen: Mapping[str, str | None]) -> _Sheet:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise SourceError(
            f"{file}: reading Parquet needs pyarrow; install it with: pip install 'frostline[parquet]'"
        ) from error
    check_regular(file)
    try:
        with parquet.ParquetFile(file) as opened:
            header = opened.schema_arrow.names
            wanted = find_columns(header, chosen, f"{file}, its schema")
            _check_types(opened.schema_arrow, wanted, file)
            table = _with_shortest_floats(opened.read(columns=[header[index] for index in wanted.values()]))
            cells = {role: table[header[index]].to_pylist() for role, index in wanted.items()}
    except SourceError:
        raise
    except (OSError, ValueError) as error:  # pyarrow raises both
        raise SourceError(f"{file}: not a readable Parquet file: {error}") from error
    columns = {
        role: [
            _text(value, _place(file, "row", row, header[index]), whole=role != "label")
            for row, value in enumerate(cells[role], 1)
        ]
        for role, index in wanted.items()
    }
    return _Sheet(file, header, wanted, columns, range(1, table.num_rows + 1), "row")


def _check_types(schema: Any, wanted: Mapping[str, int], file: str) -> None:
    """Raise `SourceError` for columns of lists and structs."""
    from pyarrow import types

    for role, index in wanted.items():
        column = schema.field(index)
        if types.is_nested(column.type):
            raise SourceError(
                f"{file}, its schema: the column {column.name!r} holds {str(column.type)[:_SHOWN]}; expected one text or"
                f" number per row as {role}. Write images that lie in the table to files, and a list to one column"
            )


def _with_shortest_floats(table: Any) -> Any:
    """Return a table in which a float of fewer bits is the float64 of the same shortest text: 0.1, not 0.10000000149."""
    import pyarrow

    for index, column in enumerate(table.schema):
        if pyarrow.types.is_floating(column.type) and not pyarrow.types.is_float64(column.type):
            values = [float(str(value)) for value in table[index].to_numpy()]
            table = table.set_column(index, column.name, pyarrow.array(values, pyarrow.float64()))
    return table


def _place(file: str, unit: str, line: int, column: str = "") -> str:
    return f"{file}, {unit} {line}" + (f", column {column!r}" if column else "")


def _text(value: Any, where: str, *, whole: bool) -> str:
    """Return a Parquet cell as CSV text.

    Args:
        value: The cell.
        where: Place named in error messages.
        whole: Whether whole floats lose the ``.0`` that pandas adds next to missing values.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise SourceError(f"{where}: bytes that are not UTF-8 text; got {value[:20]!r}") from error
    if whole and isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
