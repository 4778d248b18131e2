"""Manifests as JSON Lines: one object per line."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from frostline.features.errors import SourceError
from frostline.features.sources.manifests.columns import find_columns
from frostline.features.sources.manifests.sheet import Sheet, cell_text, place, side_cells, side_names
from frostline.features.sources.manifests.text import bounded_lines
from frostline.system.files import open_regular

_KEY: Final = re.compile(r'"\s*:')
"""Pattern of the end of a key. It also matches within texts."""


def read_json_lines(file: str, chosen: Mapping[str, str | None]) -> Sheet:
    """Read the columns of a JSON Lines file: the keys of its objects. A key that an object lacks is an empty cell.

    Args:
        file: Path of the file, UTF-8 text with or without a byte-order mark.
        chosen: Column by role; see `columns.find_columns`.

    Raises:
        OSError: The file can't be read.
        SourceError: A line is not a JSON object, a cell is a list or an object, or a column is missing.
    """
    objects, lines = [], []
    with open(open_regular(file), encoding="utf-8-sig", newline="") as stream:  # noqa: PTH123  # a descriptor
        try:
            for number, line in enumerate(bounded_lines(stream, file), 1):
                if line.strip():
                    objects.append(json_object(line.strip(), place(file, "line", number)))
                    lines.append(number)
        except UnicodeDecodeError as error:
            raise SourceError(
                f"{file}, after line {lines[-1] if lines else 0}: byte 0x{error.object[error.start]:02x} is not UTF-8;"
                " save the file as UTF-8"
            ) from error
    header = list(dict.fromkeys(key for each in objects for key in each))
    taken = find_columns(header, chosen, file)
    columns = {
        role: [
            json_cell(each.get(header[index]), place(file, "line", line, header[index]), role)
            for each, line in zip(objects, lines, strict=True)
        ]
        for role, index in taken.items()
    }
    return Sheet(file, header, taken, columns, lines, "line", json_side(objects, header, taken))


def json_side(
    objects: Sequence[Mapping[str, Any]], header: Sequence[str], taken: Mapping[str, int]
) -> dict[str, list[str]]:
    """Return the cells of the side columns of objects: those without lists and objects."""
    found = {}
    for name in side_names(header, taken.values()):
        values = [each.get(name) for each in objects]
        if not any(isinstance(value, dict | list) for value in values):
            found[name] = side_cells(values)
    return found


def json_object(text: str | bytes, where: str) -> dict[str, Any]:
    """Return an object from its text.

    Raises:
        SourceError: The text is not a JSON object, or has a key twice.
    """
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SourceError(f"{where}: not JSON ({error}); expected an object") from None
    if not isinstance(found, dict):
        raise SourceError(
            f'{where}: got {text[:40]!r}, expected an object such as {{"path": "a.png", "label": "cat"}}'
        )
    if len(_KEY.findall(text if isinstance(text, str) else text.decode())) > len(found):
        _check_keys(text, where)
    return found


def _check_keys(text: str | bytes, where: str) -> None:
    """Raise `SourceError` for an object with two values of one key."""
    whole: list[tuple[str, Any]] = []

    def keep(pairs: list[tuple[str, Any]]) -> None:
        whole[:] = pairs  # of the outermost object in the end

    json.loads(text, object_pairs_hook=keep, parse_int=str)
    keys = Counter(key for key, _ in whole)
    if repeated := [key for key, count in keys.items() if count > 1]:
        raise SourceError(f"{where}: has the key {repeated[0]!r} {keys[repeated[0]]} times, expected it once")


def json_cell(value: Any, where: str, role: str) -> str:
    """Return a value of an object as the text that it would have in a CSV file; empty for None.

    Raises:
        SourceError: The value is a list or an object.
    """
    if isinstance(value, dict | list):
        raise SourceError(f"{where}: got {json.dumps(value)[:40]}, expected one text or number as {role}")
    if isinstance(value, bool):
        return json.dumps(value)
    return cell_text(value, where, whole=role != "label")
