"""Samples of the WebDataset format: the files of an archive whose names differ only in what follows the first dot.

Source: the format's description at https://github.com/webdataset/webdataset.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from frostline.features.sources.containers.container import Member
from frostline.features.sources.manifests.columns import NOTE_ROLES, find_columns
from frostline.features.sources.manifests.json_lines import json_cell, json_object, json_side
from frostline.features.sources.manifests.sheet import Sheet, cell_text

_TEXTS: Final = ("cls", "txt")
_KINDS: Final = (*_TEXTS, "json")
"""Ends of the files beside an image that are read."""

_LONGEST = 1 << 20  # bytes of a text or an object


def beside(images: Sequence[Member]) -> list[dict[str, Member]]:
    """Return the files of each image's sample that are read, by the end of their names: ``cls``, ``txt`` and ``json``."""
    found: dict[tuple[int, str], dict[str, Member]] = {}
    for archive in {id(image.container): image.container for image in images}.values():
        for index, name in enumerate(archive.names):
            key, kind = _key(name)
            if kind in _KINDS:
                found.setdefault((id(archive), key), {})[kind] = Member(archive, index)
    return [found.get((id(image.container), _key(image.name)[0]), {}) for image in images]


def read_samples(
    where: str,
    images: Sequence[Member],
    others: Sequence[Mapping[str, Member]],
    chosen: Mapping[str, str | None],
) -> Sheet:
    """Return what the files beside the images say of them, as a table.

    Its columns are ``cls`` and ``txt``, with the text of these files, and the keys of the objects in the ``json`` files.
    Labels are those of ``cls`` by default, else of the key ``label``.

    Args:
        where: The archives, for messages.
        images: The images.
        others: The files beside each image, see `beside`.
        chosen: Column by role, see `columns.find_columns`.

    Raises:
        OSError: An archive can't be read.
        SourceError: A file is not text or not a JSON object, or a column is missing.
    """
    rows = [_cells(files) for files in others]
    names = dict.fromkeys(name for row in rows for name in row)
    header = [name for name in dict.fromkeys((*_TEXTS, *names)) if name in names]
    default = {"label": "cls"} if "cls" in names and not chosen.get("label") else {}
    taken = find_columns(header, {**chosen, **default}, where, NOTE_ROLES)
    columns = {
        role: [
            json_cell(row.get(header[index]), f"{image.location}, its {header[index]!r}", role)
            for row, image in zip(rows, images, strict=True)
        ]
        for role, index in taken.items()
    }
    side = json_side(rows, header, taken)
    return Sheet(where, header, taken, columns, range(1, len(images) + 1), "image", side)


def _key(name: str) -> tuple[str, str]:
    folder, slash, own = name.rpartition("/")
    stem, _, kind = own.partition(".")
    return f"{folder}{slash}{stem}", kind.lower()


def _cells(files: Mapping[str, Member]) -> dict[str, Any]:
    read = {kind: member.container.read(member.index, _LONGEST) for kind, member in files.items()}
    cells = json_object(read.pop("json"), files["json"].location) if "json" in read else {}
    texts = {kind: cell_text(data, files[kind].location, whole=False).strip() for kind, data in read.items()}
    return {**cells, **texts}
