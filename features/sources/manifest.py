"""Manifests: CSV, TSV or Parquet tables of ``path,label[,split][,group]``, one image per row."""

import csv
import difflib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from frostline.features.errors import SourceError
from frostline.features.sources.files import SPLIT_CODES, FileSource, absolute, is_integer, make_table
from frostline.features.sources.kinds import SourceKind
from frostline.features.sources.listing import UNREADABLE, file_stat
from frostline.splits import Split

_SUFFIXES = (".csv", ".tsv", ".parquet")
_COLUMNS = ("path", "label", "split", "group")


@dataclass(frozen=True)
class _Sheet:
    """Known columns of a manifest as text, with the position of each row in the file."""

    file: str
    columns: Mapping[str, Sequence[str]]  # only those in the file; path is always present
    lines: Sequence[int]
    unit: str  # unit of lines: "line" or "row"

    def at(self, row: int) -> str:
        return f"{self.file}, {self.unit} {self.lines[row]}"

    def column(self, name: str) -> Sequence[str]:
        return self.columns.get(name) or [""] * len(self.lines)


def open_manifest(root: str) -> FileSource:
    """List the images of a manifest.

    Paths are absolute, or relative to the manifest's folder. They may point outside that folder. A row whose file
    is missing is kept and recorded as an unreadable image. If all labels are integers, the classes are sorted by
    value.

    Args:
        root: Path of a file that ends in ``.csv``, ``.tsv`` or ``.parquet``.

    Raises:
        SourceError: The table can't be read, a row is not valid, or none of the files exists.
    """
    root = absolute(root)
    sheet = _read_parquet(root) if root.lower().endswith(".parquet") else _read_text(root)
    if not sheet.lines:
        raise SourceError(f"{root}: the manifest lists no image; expected rows of path,label[,split][,group]")
    folder = os.path.dirname(root)  # noqa: PTH120  # ids are strings
    ids = _ids(sheet)
    stats = [file_stat(os.path.join(folder, id_)) for id_ in ids]  # noqa: PTH118  # as above
    if all(stat == UNREADABLE for stat in stats):
        raise SourceError(
            f"{root}: none of its {len(ids)} files exists; {sheet.at(0)} points to {Path(folder, ids[0])}."
            " Expected absolute paths, or paths relative to the manifest's folder."
        )
    table, changed = make_table(
        ids,
        stats,
        labels=_labels(sheet.column("label")),
        split=_splits(sheet),
        groups=[group.strip() for group in sheet.column("group")],
        where=root,
    )
    return FileSource(root, table, changed, folder=folder)


MANIFEST = SourceKind(
    f"a manifest ending in {', '.join(_SUFFIXES)}",
    lambda path: path.lower().endswith(_SUFFIXES) and Path(path).exists(),
    open_manifest,
    lambda root, id_: Path(root).parent / id_,
)


def _ids(sheet: _Sheet) -> list[str]:
    seen: dict[str, int] = {}
    for row, cell in enumerate(sheet.columns["path"]):
        if not cell.strip() or "\0" in cell:
            raise SourceError(f"{sheet.at(row)}, column 'path': got {cell!r}; expected an image file's path")
        id_ = PurePath(cell).as_posix()
        if (first := seen.setdefault(id_, row)) != row:
            raise SourceError(
                f"{sheet.at(row)}, column 'path': {cell!r} is already in {sheet.unit} {sheet.lines[first]};"
                " expected each image once"
            )
    return list(seen)


def _labels(cells: Iterable[str]) -> list[str]:
    labels = [cell.strip() for cell in cells]
    if all(map(is_integer, {*labels} - {""})):
        return [label and str(int(label)) for label in labels]
    return labels


def _splits(sheet: _Sheet) -> list[Split]:
    codes = []
    for row, cell in enumerate(sheet.column("split")):
        name = cell.strip().lower()
        if name and name not in SPLIT_CODES:
            raise SourceError(
                f"{sheet.at(row)}, column 'split': got {cell!r}; expected {', '.join(SPLIT_CODES)}, or nothing"
            )
        codes.append(SPLIT_CODES.get(name, Split.NONE))
    return codes


def _read_text(file: str) -> _Sheet:
    delimiter = "\t" if file.lower().endswith(".tsv") else ","
    with Path(file).open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, delimiter=delimiter, strict=True)
        try:
            header = next(reader, [])
            wanted = _find_columns(header, f"{file}, line 1")
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
                rows.append([cells[index] for index in wanted.values()])
        except csv.Error as error:
            raise SourceError(
                f"{file}, line {reader.line_num}: {error}; expected quoting as in RFC 4180"
            ) from error
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            raise SourceError(
                f"{file}, after line {reader.line_num}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8"
            ) from error
    columns = zip(*rows, strict=True) if rows else ([] for _ in wanted)
    return _Sheet(file, dict(zip(wanted, columns, strict=True)), lines, "line")


def _read_parquet(file: str) -> _Sheet:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise SourceError(
            f"{file}: reading Parquet needs pyarrow; install it with: pip install 'frostline[parquet]'"
        ) from error
    try:
        with parquet.ParquetFile(file) as opened:
            header = opened.schema_arrow.names
            wanted = _find_columns(header, f"{file}, its schema")
            table = opened.read(columns=[header[index] for index in wanted.values()])
    except SourceError:
        raise
    except (OSError, ValueError) as error:  # pyarrow raises both
        raise SourceError(f"{file}: not a readable Parquet file: {error}") from error
    columns = {
        name: [_text(value) for value in table[header[index]].to_pylist()] for name, index in wanted.items()
    }
    return _Sheet(file, columns, range(1, table.num_rows + 1), "row")


def _text(value: Any) -> str:
    """Return a Parquet cell as CSV text. Whole floats lose the ``.0`` that pandas adds next to missing values."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _find_columns(header: Sequence[str], where: str) -> dict[str, int]:
    """Return the index of each known column.

    Raises:
        SourceError: A known column is duplicated, or is missing while another column has a similar name.
    """
    names = [name.strip().lower() for name in header]
    for name in _COLUMNS:
        if names.count(name) > 1:
            raise SourceError(f"{where}: got {names.count(name)} columns named {name!r}, expected one")
        if name not in names and (close := difflib.get_close_matches(name, names, n=1, cutoff=0.8)):
            found = header[names.index(close[0])]
            raise SourceError(
                f"{where}: no column {name!r}, but {found!r}; did you mean {name!r}? Rename the column."
            )
    if "path" not in names:
        raise SourceError(
            f"{where}: no column 'path'; got {', '.join(map(repr, header)) or 'an empty file'};"
            " expected a header like path,label,split,group"
        )
    return {name: names.index(name) for name in _COLUMNS if name in names}
