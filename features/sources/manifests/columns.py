"""Columns of a manifest: which of them are taken for path, label, split and group."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Final

from frostline.features.errors import SourceError
from frostline.features.sources.labels import listed, words

ROLES: Final = ("path", "label", "split", "group")
"""Roles of the columns of a manifest, and their default names."""

NOTE_ROLES: Final = ROLES[1:]
"""Roles of columns that say something of images which the table itself holds, or lies beside."""

_SHOWN: Final = 30  # names of columns in a message

NO_COLUMN: Final = "none"
"""Choice for a column that the manifest doesn't have."""

_WORDS: Mapping[str, frozenset[str]] = {
    "path": frozenset({"file", "filename", "filepath", "image", "img", "name", "photo", "picture"}),
    "label": frozenset({"category", "class", "classname", "label", "species", "target"}),
    "split": frozenset({"partition", "phase", "set", "split", "subset", "usage"}),
}
"""Words in the names of columns that probably are meant."""


def find_columns(
    header: Sequence[str], chosen: Mapping[str, str | None], where: str, roles: Sequence[str] = ROLES
) -> dict[str, int]:
    """Return the index of the column of each role that the manifest has.

    Args:
        header: Names of the columns.
        chosen: Name of the column by role as the user chose it, ``none`` for no such column; roles that are missing
            or None have the column of their own name.
        where: Place named in error messages.
        roles: Roles to find columns for. That of the path is required.

    Raises:
        SourceError: A column is duplicated; a chosen one is missing; or there is no column of a role, while another
            column looks like it.
    """
    found = {}
    for role in roles:
        name = chosen.get(role)
        index = _chosen(header, role, name, where) if name else _own(header, role, where)
        if index is not None:
            found[role] = index
    taken: dict[int, str] = {}
    for role, index in found.items():
        if (other := taken.setdefault(index, role)) != role:
            raise SourceError(f"{where}: the column {header[index]!r} can't be both {other} and {role}")
    return found


def column_remarks(
    header: Sequence[str], chosen: Mapping[str, str | None], taken: Mapping[str, int]
) -> list[str]:
    """Return sentences about columns that may be meant and were not taken; see `find_columns`."""
    unused = [name for index, name in enumerate(header) if index not in taken.values()]
    remarks = []
    if unused and "label" not in taken and not chosen.get("label"):
        remarks.append(
            f"no column of labels among {listed(unused)}, so the images are unlabelled; name one with --label-column"
        )
    similar = [name for name in unused if words(name) & _WORDS["split"]]
    if similar and "split" not in taken and not chosen.get("split"):
        remarks.append(
            f"the column {similar[0]!r} looks like splits, but is not used; name it with --split-column, or say that it"
            f" tells no split with --split-column {NO_COLUMN}"
        )
    return remarks


def _own(header: Sequence[str], role: str, where: str) -> int | None:
    """Return the index of the column that is named like a role; None without one."""
    names = [name.strip().lower() for name in header]
    if names.count(role) > 1:
        raise SourceError(f"{where}: got {names.count(role)} columns named {role!r}, expected one")
    if role in names:
        return names.index(role)
    option = f"--{role}-column"
    if close := difflib.get_close_matches(role, names, n=1, cutoff=0.8):
        found = header[names.index(close[0])]
        raise SourceError(
            f"{where}: no column {role!r}, but {found!r}; did you mean {role!r}? Rename the column, or name it:"
            f" {option} {found!r}"
        )
    similar = [name for name in header if words(name) & _WORDS.get(role, frozenset())]
    if role == "path":
        if separator := _separator(header):
            raise SourceError(
                f"{where}: no column 'path', because {separator!r} separates the columns; expected commas in a CSV file"
                " and tabs in a TSV file. Save the table as one of the two"
            )
        remedy = f"{option} {similar[0] if similar else 'NAME'!r}"
        raise SourceError(
            f"{where}: no column 'path'; got {_all(header) or 'an empty file'};"
            f" expected a header like {','.join(ROLES)}, or the name of the column: {remedy}"
        )
    if similar and role == "label":
        raise SourceError(
            f"{where}: there is no label column, but {', '.join(map(repr, similar))}"
            f" {'look' if len(similar) > 1 else 'looks'} like one. Name it: {option} {similar[0]!r}; or, for images"
            f" without labels: {option} {NO_COLUMN}"
        )
    return None


def _chosen(header: Sequence[str], role: str, name: str, where: str) -> int | None:
    """Return the index of the column that the user chose for a role; None if it is to have none."""
    exact = [index for index, column in enumerate(header) if column == name]
    alike = exact or [
        index for index, column in enumerate(header) if column.strip().lower() == name.strip().lower()
    ]
    if len(alike) > 1:
        raise SourceError(f"{where}: got {len(alike)} columns named {name!r}, expected one")
    if alike:
        return alike[0]
    if name == NO_COLUMN and role != "path":
        return None
    close = difflib.get_close_matches(name, header, n=1)
    raise SourceError(
        f"{where}: --{role}-column: no column {name!r}{f'; did you mean {close[0]!r}?' if close else ''}; got"
        f" {_all(header)}"
    )


def _all(header: Sequence[str]) -> str:
    """Return the names of columns for a message; of very many, the first."""
    more = f" and {len(header) - _SHOWN:,} more" if len(header) > _SHOWN else ""
    return ", ".join(map(repr, header[:_SHOWN])) + more


def _separator(header: Sequence[str]) -> str:
    """Return the separator in the only name of a header, which probably joins several names; empty without one."""
    if len(header) != 1:
        return ""
    return next((char for char in ";\t,|" if char in header[0]), "")
