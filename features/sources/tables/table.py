"""Tables that hold images as image sources: Parquet and Arrow files, single ones and sets of shards."""

import contextlib
import os
from dataclasses import replace
from pathlib import PurePath
from typing import Final

from frostline.features.errors import SourceError
from frostline.features.sources.containers.container import Member
from frostline.features.sources.containers.shards import expand, is_pattern, shard_names, splits_of_images
from frostline.features.sources.containers.source import ContainedSource, contained_source
from frostline.features.sources.files import absolute, make_table
from frostline.features.sources.folders.arrangement import Arrangement
from frostline.features.sources.kinds import SourceKind
from frostline.features.sources.labels import listed
from frostline.features.sources.manifests.columns import column_remarks
from frostline.features.sources.manifests.sheet import Sheet

_PARQUET: Final = ".parquet"
_SUFFIXES: Final = (_PARQUET, ".arrow", ".feather")


def open_images_in_tables(
    root: str,
    *,
    path_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
) -> ContainedSource:
    """List the images of a Parquet or Arrow file, or of all files that a pattern names.

    The id of an image is the number of its row, after the name of the file if there are several.

    Args:
        root: Path of a file, or a pattern; see `shards.expand`.
        path_column: Column of the images; by default the only one.
        label_column: Column of the labels, ``none`` for unlabelled images; by default ``label``.
        split_column: Column of the splits, ``none`` for no splits; by default ``split``.
        group_column: Column of the groups, ``none`` for no groups; by default ``group``.

    Raises:
        OSError: A file can't be read.
        SourceError: A file is damaged, lacks a column, or a cell is not valid.
    """
    try:
        from frostline.features.sources.tables.rows import open_rows, read_notes
    except ImportError as error:
        raise SourceError(
            f"{root}: reading tables needs pyarrow; install it with: pip install 'frostline[parquet]'"
        ) from error
    root = absolute(root)
    paths = expand(root)
    files = [open_rows(path, path_column) for path in paths]
    chosen = {"label": label_column, "split": split_column, "group": group_column}
    sheets = [read_notes(file, chosen) for file in files]
    names = shard_names(paths)
    members = [Member(file, index) for file in files for index in range(len(file.names))]
    shards = [shard for shard, file in enumerate(files) for _ in file.names]
    ids = [
        f"{names[shard]}/{member.name}" if names[shard] else member.name
        for shard, member in zip(shards, members, strict=True)
    ]
    if not ids:
        raise SourceError(f"{root}: holds no row")
    whole = _joined(sheets)
    labels, remarks = whole.labels()
    table, changed = make_table(
        ids,
        [member.container.file_stat(member.index) for member in members],
        labels=labels,
        split=[split for sheet in sheets for split in sheet.splits()],
        groups=whole.groups(),
        columns=whole.side_columns,
        where=root,
    )
    if partial := [name for name in whole.header if any(name not in sheet.header for sheet in sheets)]:
        remarks.append(f"not used, because not all files have them: the columns {listed(partial)}")
    notes = whole.notes([*column_remarks(whole.header, chosen, whole.taken), *remarks])
    return contained_source(
        root, Arrangement(table, changed, notes), ids, members, splits_of_images(names, shards)
    )


def _joined(sheets: list[Sheet]) -> Sheet:
    """Return the rows of several tables with the columns of the first."""
    first = sheets[0]
    for sheet in sheets[1:]:
        used, expected = (
            {role: each.header[index] for role, index in each.taken.items()} for each in (sheet, first)
        )
        if used != expected:
            raise SourceError(
                f"{sheet.file}: has the columns {used}, but {first.file} has {expected}; expected the same"
            )
    columns = {role: [cell for sheet in sheets for cell in sheet.columns[role]] for role in first.taken}
    side = {
        name: [cell for sheet in sheets for cell in sheet.side[name]]
        for name in first.side
        if all(name in sheet.side for sheet in sheets)
    }
    return replace(
        first,
        header=[
            *first.header,
            *dict.fromkeys(name for sheet in sheets for name in sheet.header if name not in first.header),
        ],
        columns=columns,
        side=side,
        lines=[line for sheet in sheets for line in sheet.lines],
    )


def _accepts(data: str) -> bool:
    suffix = PurePath(data).suffix.lower()
    if suffix not in _SUFFIXES or os.path.isdir(data):  # noqa: PTH112
        return False
    if not os.path.exists(data):  # noqa: PTH110
        return is_pattern(data)
    return suffix != _PARQUET or _holds_images(data)


def _holds_images(path: str) -> bool:
    """Return whether a Parquet file holds images, and does not only list them, as a manifest does."""
    with contextlib.suppress(ImportError, OSError, SourceError):
        from frostline.features.sources.tables.batches import open_table
        from frostline.features.sources.tables.image_column import image_columns

        return bool(image_columns(open_table(path).schema))
    return False


TABLE = SourceKind(
    f"a table of images ({', '.join(_SUFFIXES)})",
    _accepts,
    open_images_in_tables,
    options=("path_column", "label_column", "split_column", "group_column"),
)
