"""Columns of tables: which of them are numbers of the vectors, and which tell something of the rows."""

import fnmatch
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from frostline.features.cache.arrow_rows import COLUMNS
from frostline.features.cache.imported.vectors import EMBEDDING
from frostline.features.columns import MAX_COLUMNS
from frostline.features.errors import VectorsError
from frostline.features.sources.labels import listed
from frostline.pipeline.importing.importers import Wanted
from frostline.pipeline.importing.named_arrays import column_key, described_layers, layer_key

_NUMBERED = re.compile(r"(.*?)(\d+)")
_ROLES = ("id", "label", "split", "group")
_BESIDE = frozenset({"row", "label_code", "content"})  # of an export, which are not needed


@dataclass(frozen=True)
class Plan:
    """What is taken from the columns of a table.

    Attributes:
        lists: Column of lists by key of the layer.
        numbers: Columns of single numbers by key of the layer, in the order of the vector.
        roles: Column by role: id, label, split, group.
        side: Name of the side column by other columns that hold one number or text per row.
        unused: All other columns.
    """

    lists: Mapping[str, str]
    numbers: Mapping[str, Sequence[str]]
    roles: Mapping[str, str]
    side: Mapping[str, str]
    unused: Sequence[str]


def plan_columns(
    wanted: Wanted,
    names: Sequence[str],
    *,
    lists: Collection[str] = (),
    plain: Collection[str] | None = None,
    description: Mapping[str, object] | None = None,
) -> Plan:
    """Return what is to be taken from the columns of a table.

    Numbers of a vector are the columns that the user's pattern fits; else those that have one name but for a number
    that counts from 0 or 1. Numbered columns are taken in the order of the numbers, others in that of the table.

    Args:
        wanted: What is to be read.
        names: All columns.
        lists: Those that hold a list of numbers per row.
        plain: Those that hold one number or text per row; None for all but `lists`.
        description: What an export of Frostline says; empty or None for another file.

    Raises:
        VectorsError: Columns are missing or named twice, or several may be meant.
    """
    description = description or {}
    if len({*names}) < len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise VectorsError(f"{wanted.path}: got several columns named {twice!r}, expected different names")
    roles = {role: name for role in _ROLES if (name := wanted.role(role, names)) is not None}
    wanted.role("classes", ())
    free = [name for name in names if name not in roles.values()]
    chosen = wanted.arrays or described_layers(description, lists)
    vectors: dict[str, str] = {}
    numbers: dict[str, list[str]] = {}
    if wanted.columns is None and (chosen or lists):
        found = _lists(wanted, chosen, [name for name in free if name in lists], names)
        keys = {
            layer_key(description, name) if description else name.replace("/", "."): name for name in found
        }
        vectors = {EMBEDDING: found[0]} if len(found) == 1 and not description else keys
    else:
        numbers = _matching(wanted, free) if wanted.columns is not None else _numbered(wanted, free)
        found = [name for columns in numbers.values() for name in columns]
    exported = bool(description) or tuple(names[: len(COLUMNS)]) == COLUMNS
    others = [name for name in free if name not in {*found, *(_BESIDE if exported else ())}]
    if plain is None:
        plain = {*names} - {*lists}
    side = [name for name in others if name in plain and name.strip()][:MAX_COLUMNS]
    return Plan(
        vectors,
        numbers,
        roles,
        {name: column_key(description, name) for name in side},
        [name for name in others if name not in side],
    )


def _lists(wanted: Wanted, chosen: Sequence[str], lists: Sequence[str], names: Sequence[str]) -> list[str]:
    if chosen:
        missing = [name for name in chosen if name not in lists]
        if missing:
            raise VectorsError(
                f"{wanted.path}: --array: no column of lists {missing[0]!r}; got {listed(lists) or 'none'} among {listed(names)}"
            )
        return list(dict.fromkeys(chosen))
    if len(lists) > 1:
        raise VectorsError(
            f"{wanted.path}: several columns hold lists of numbers: {', '.join(map(repr, lists))}. Name one with --array"
            " COLUMN, or several for as many layers"
        )
    return list(lists)


def _matching(wanted: Wanted, names: Sequence[str]) -> dict[str, list[str]]:
    """Return the columns that the user's pattern fits."""
    found = [name for name in names if fnmatch.fnmatchcase(name, wanted.columns or "")]
    if not found:
        raise VectorsError(
            f"{wanted.path}: --columns: no column fits {wanted.columns!r}; got {listed(names) or 'none'}"
        )
    parts = [_NUMBERED.fullmatch(name) for name in found]
    if all(parts) and len({part[1] for part in parts if part}) == 1:
        found.sort(key=lambda name: int(re.findall(r"\d+", name)[-1][-18:]))
    return {EMBEDDING: found}


def _numbered(wanted: Wanted, names: Sequence[str]) -> dict[str, list[str]]:
    """Return the columns of each name with a number that counts from 0 or 1."""
    runs: dict[str, dict[int, str]] = {}
    for name in names:
        if (part := _NUMBERED.fullmatch(name)) and len(part[2]) <= 9:
            runs.setdefault(part[1], {})[int(part[2])] = name
    whole = {
        prefix: [run[number] for number in sorted(run)]
        for prefix, run in runs.items()
        if sorted(run) in ([*range(len(run))], [*range(1, len(run) + 1)])
    }
    if not whole:
        raise VectorsError(
            f"{wanted.path}: no column of lists and no numbered columns, such as f0, f1, f2, hold the vectors; got"
            f" {listed(names) or 'no columns'}. Name the columns with --columns PATTERN"
        )
    if len(whole) == 1:
        return {EMBEDDING: next(iter(whole.values()))}
    keys = {prefix.rstrip("_-. ") or EMBEDDING: columns for prefix, columns in whole.items()}
    if len(keys) < len(whole):
        raise VectorsError(
            f"{wanted.path}: can't tell the columns {listed([*whole])} apart; choose with --columns PATTERN"
        )
    return keys
