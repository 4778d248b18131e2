"""Names of splits, and the choice of the folders that are splits."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from frostline.features.errors import SourceError
from frostline.features.sources.labels import words
from frostline.splits import SPLIT_NAMES, Split

SPLIT_CODES: Final[Mapping[str, Split]] = {
    "train": Split.TRAIN,
    "training": Split.TRAIN,
    "val": Split.VAL,
    "valid": Split.VAL,
    "validation": Split.VAL,
    "dev": Split.VAL,
    "test": Split.TEST,
    "testing": Split.TEST,
}
"""Names of splits in lower case. ``eval`` and ``holdout`` are missing: some sets validate on them, others test."""

LEFT_OUT: Final = "skip"
"""Value of a folder that is left out."""

NO_SPLITS: Final = "none"
"""Choice for top-level folders that are classes, whatever their names."""

_SUFFIX = re.compile(r"(set|data|images?|imgs?|pics|photos?|files?|folder|dir)$")


def split_of(name: str) -> Split | None:
    """Return the only split that a word of a folder's name tells, as in ``seg_train``; None without one."""
    told = {SPLIT_CODES.get(word) or SPLIT_CODES.get(_SUFFIX.sub("", word)) for word in words(name)} - {None}
    return told.pop() if len(told) == 1 else None


def read_split_folders(given: Mapping[str, str] | Sequence[str]) -> dict[str, Split | None]:
    """Return the split by folder that the user chose; None for a folder to leave out.

    Args:
        given: Split by folder; or texts such as ``Training=train,Testing=test``. ``none`` alone says that no folder
            is a split. A comma separates two folders only after a split, so that the name of a folder may contain it.

    Raises:
        SourceError: A text has another form, names no split, or names a folder twice.
    """
    if isinstance(given, Mapping):
        pairs = [(str(folder), str(name)) for folder, name in given.items()]
    elif [text.strip().lower() for text in given] == [NO_SPLITS]:
        pairs = []
    else:
        pairs = [_pair(text) for line in given for text in _texts(line)]
    chosen: dict[str, Split | None] = {}
    for folder, name in pairs:
        if folder in chosen:
            raise SourceError(f"--split-folders: got the folder {folder!r} twice; expected each folder once")
        chosen[folder] = _code(folder, name)
    return chosen


def written(splits: Mapping[str, Split | None]) -> dict[str, str]:
    """Return the split by folder in the form that `read_split_folders` takes."""
    return {
        folder: LEFT_OUT if code is None else SPLIT_NAMES[code] for folder, code in sorted(splits.items())
    }


def _texts(line: str) -> list[str]:
    """Split a text at the commas that follow a split; a comma before the equals sign belongs to the folder."""
    texts, begun = [], ""
    for piece in line.split(","):
        begun = f"{begun},{piece}" if begun else piece
        if "=" in piece:
            texts.append(begun)
            begun = ""
    return [*texts, begun] if begun else texts


def _pair(text: str) -> tuple[str, str]:
    folder, equals, name = text.rpartition("=")
    folder, name = folder.strip().rstrip("/\\"), name.strip()
    if not equals or not folder:
        raise SourceError(
            f"--split-folders: got {text!r}; expected FOLDER=SPLIT, such as Training=train,Testing=test,"
            f" or {NO_SPLITS} if the top-level folders are classes"
        )
    return folder, name


def _code(folder: str, name: str) -> Split | None:
    if name.lower() == LEFT_OUT:
        return None
    if name.lower() not in SPLIT_CODES:
        raise SourceError(
            f"--split-folders: got {name!r} for the folder {folder!r}; expected train, val, test, or {LEFT_OUT}"
        )
    return SPLIT_CODES[name.lower()]
