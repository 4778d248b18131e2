"""Files whose names are written in another way than on disk: another Unicode form, or back-slashes."""

import os
import unicodedata
from collections.abc import Mapping
from pathlib import PureWindowsPath


class DiskNames:
    """Search for files by name in any Unicode form. Each folder is listed at most once."""

    def __init__(self) -> None:
        self._folders: dict[str, Mapping[str, str]] = {}

    def find(self, folder: str, path: str) -> str | None:
        """Return the path, relative to a folder, of an existing file that `path` names; None without one.

        Args:
            folder: Absolute path.
            path: Path relative to the folder, or absolute. Its back-slashes may separate folders, and blanks may
                surround it.
        """
        forms = (path, PureWindowsPath(path).as_posix())
        for candidate in dict.fromkeys((*forms, *(form.strip() for form in forms))):
            if os.path.lexists(os.path.join(folder, candidate)):  # noqa: PTH118  # strings, as ids are
                return candidate
            if not candidate.isascii() and (found := self._in_another_form(folder, candidate)):
                return found
        return None

    def _in_another_form(self, folder: str, path: str) -> str | None:
        place, parts = folder, []
        if path.startswith("/"):
            place, parts = "/", [""]
        for part in path.strip("/").split("/"):
            name = part
            if not os.path.lexists(os.path.join(place, part)):  # noqa: PTH118
                found = self._names(place).get(unicodedata.normalize("NFC", part))
                if found is None:
                    return None
                name = found
            parts.append(name)
            place = os.path.join(place, name)  # noqa: PTH118
        return "/".join(parts)

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
