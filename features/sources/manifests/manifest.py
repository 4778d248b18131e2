"""Manifests: tables of ``path,label[,split][,group]``, one image per row."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Final

from frostline.features.errors import SourceError
from frostline.features.sources.disk_names import DiskNames, may_differ, on_disk
from frostline.features.sources.files import FileSource, absolute, make_table
from frostline.features.sources.kinds import SourceKind
from frostline.features.sources.manifests.columns import ROLES, column_remarks
from frostline.features.sources.manifests.json_lines import read_json_lines
from frostline.features.sources.manifests.parquet import read_parquet
from frostline.features.sources.manifests.sheet import Sheet
from frostline.features.sources.manifests.text import read_text
from frostline.features.sources.remote.access import Access
from frostline.features.sources.remote.urls import is_url
from frostline.features.sources.stats import UNREADABLE, Stat, file_stat, file_stats
from frostline.features.table import ImageSource

_READERS: Final[Mapping[str, Callable[[str, Mapping[str, str | None]], Sheet]]] = {
    ".csv": read_text,
    ".tsv": read_text,
    ".parquet": read_parquet,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
}
"""Reader by the end of a manifest's name, in lower case."""

MANIFEST_SUFFIXES: Final = tuple(_READERS)
"""Ends of the names of manifests, in lower case."""

_NEEDLESS = re.compile(r"(^|/)(\./|\.?$|/)")


def open_manifest(
    root: str,
    *,
    path_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
    access: Access | None = None,
) -> ImageSource:
    """List the images of a manifest.

    Paths are absolute, or relative to the manifest's folder. They may point outside that folder, have back-slashes,
    and be in another Unicode form than on disk. A row whose file is missing is kept and recorded as an unreadable
    image. Labels are the text that was written, without surrounding blanks; if all are integers, the classes are
    sorted by value.

    Args:
        root: Path of a CSV, TSV, Parquet or JSON Lines file, with such an end of its name.
        path_column: Column of the paths; by default ``path``.
        label_column: Column of the labels, ``none`` for unlabelled images; by default ``label``.
        split_column: Column of the splits, ``none`` for no splits; by default ``split``.
        group_column: Column of the groups, ``none`` for no groups; by default ``group``.
        access: How images are read that are named by URLs.

    Raises:
        SourceError: The table can't be read, a row is not valid, or none of the files exists.
    """
    root = absolute(root)
    chosen = dict(zip(ROLES, (path_column, label_column, split_column, group_column), strict=True))
    sheet = read_sheet(root, chosen)
    folder = os.path.dirname(root)  # noqa: PTH120  # ids are strings
    if any(is_url(cell.strip()) for cell in sheet.columns["path"]):
        from frostline.features.sources.remote.listed import listed_source

        return listed_source(root, sheet, folder, chosen, access or Access())
    if access and access.byte_cache:
        raise SourceError(f"--byte-cache: {root} names no image by a URL, and this option is for URLs")
    files = find_files(sheet, folder, range(len(sheet.lines)))
    if all(stat == UNREADABLE for stat in files.values()):
        first = Path(folder, next(iter(files)))
        raise SourceError(
            f"{root}: none of its {len(files)} files exists; {sheet.at(0)} points to {str(first)!r}."
            " Expected absolute paths, or paths relative to the manifest's folder."
        )
    labels, remarks = sheet.labels()
    table, changed = make_table(
        list(files),
        list(files.values()),
        labels=labels,
        split=sheet.splits(),
        groups=sheet.groups(),
        columns=sheet.side_columns,
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
    lambda path: _suffix(path) in MANIFEST_SUFFIXES and Path(path).exists(),
    open_manifest,
    lambda root, id_: id_ if is_url(id_) else _locate(root, id_),
    options=("path_column", "label_column", "split_column", "group_column", "access"),
)


def _locate(root: str, id_: str) -> Path:
    return Path(on_disk(os.path.join(os.path.dirname(root), id_)))  # noqa: PTH118, PTH120


def read_sheet(file: str, chosen: Mapping[str, str | None]) -> Sheet:
    """Return the columns of a manifest.

    Args:
        file: Path of the file, with one of `MANIFEST_SUFFIXES`.
        chosen: Column by role; see `columns.find_columns`.

    Raises:
        SourceError: The table can't be read, or lists nothing.
    """
    sheet = _READERS[_suffix(file)](file, chosen)
    if not sheet.lines:
        raise SourceError(f"{file}: the manifest lists no image; expected rows of path,label[,split][,group]")
    return sheet


def _suffix(path: str) -> str:
    return PurePath(path).suffix.lower()


def find_files(sheet: Sheet, folder: str, rows: Sequence[int]) -> dict[str, Stat]:
    """Return the stat of the file in each of some rows by its id: its path as on disk, or as written if it is missing.

    Args:
        sheet: The manifest.
        folder: Absolute path of its folder.
        rows: The rows.

    Raises:
        SourceError: A cell is no path, or one file is in two rows.
    """
    names = DiskNames()
    ids = [_id(sheet.columns["path"][row], sheet, row) for row in rows]
    seen: dict[str, int] = {}  # by path without "." and ".."
    stats = {}
    found_stats = file_stats([os.path.join(folder, id_) for id_ in ids])  # noqa: PTH118  # ids are strings
    for row, id_, stat in zip(rows, ids, found_stats, strict=True):
        if stat == UNREADABLE and may_differ(id_) and (found := names.find(folder, id_)):
            id_, stat = found, file_stat(os.path.join(folder, found))  # noqa: PLW2901, PTH118
        if (first := seen.setdefault(_spelt_once(folder, id_), row)) != row:
            raise SourceError(
                f"{sheet.at(row, 'path')}: {sheet.columns['path'][row]!r} is already in {sheet.unit} {sheet.lines[first]};"
                " expected each image once"
            )
        stats[id_] = stat
    return stats


def _id(cell: str, sheet: Sheet, row: int) -> str:
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
