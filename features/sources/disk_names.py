"""Files whose names are written in another way than on disk: another Unicode form, or back-slashes."""

import os
import unicodedata
from collections.abc import Mapping
from pathlib import PureWindowsPath


def may_differ(path: str) -> bool:
    """Return whether an existing file may have another path than the written one."""
    return "\\" in path or not path.isascii()


class DiskNames:
    """Search for files by name in any Unicode form. Each folder is listed at most once."""

    def __init__(self) -> None:
        self._folders: dict[str, Mapping[str, str]] = {}
        self._places: dict[tuple[str, str], str | None] = {}

    def find(self, folder: str, path: str) -> str | None:
        """Return the path, relative to a folder, of an existing file that `path` names; None without one.

        Args:
            folder: Absolute path.
            path: Path relative to the folder, or absolute. Its back-slashes may separate folders.
        """
        for candidate in (path, PureWindowsPath(path).as_posix()) if "\\" in path else (path,):
            if os.path.lexists(os.path.join(folder, candidate)):  # noqa: PTH118  # strings, as ids are
                return candidate
            if not candidate.isascii() and (found := self._in_another_form(folder, candidate)):
                return found
        return None

    def _in_another_form(self, folder: str, path: str) -> str | None:
        parent, _, name = path.rpartition("/")
        place = self._place(folder, parent or ("/" if path.startswith("/") else ""))
        if place is None:
            return None
        found = self._name(os.path.join(folder, place), name)  # noqa: PTH118
        return None if found is None else os.path.join(place, found)  # noqa: PTH118

    def _place(self, folder: str, path: str) -> str | None:
        """Return the path of a folder as on disk; each folder is searched for once."""
        if path in {"", "/"}:
            return path
        if (folder, path) not in self._places:
            self._places[folder, path] = self._in_another_form(folder, path)
        return self._places[folder, path]

    def _name(self, place: str, name: str) -> str | None:
        if os.path.lexists(os.path.join(place, name)):  # noqa: PTH118
            return name
        return self._names(place).get(unicodedata.normalize("NFC", name))

    def _names(self, folder: str) -> Mapping[str, str]:
        """Return the names in a folder by their composed form (NFC)."""
        if folder not in self._folders:
            try:
                names = os.listdir(folder)  # noqa: PTH208
            except OSError:
                names = []
            self._folders[folder] = {unicodedata.normalize("NFC", name): name for name in sorted(names)}
        return self._folders[folder]


def on_disk(path: str) -> str:
    """Return the path of an existing file or folder that `path` names in another Unicode form, else `path` itself."""
    if path.isascii() or os.path.lexists(path):
        return path
    return DiskNames().find(os.getcwd(), path) or path  # noqa: PTH109
