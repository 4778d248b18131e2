"""Archives, tables and arrays on other machines: copied once, and then read like local ones."""

import errno
import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.features.errors import SourceError
from frostline.features.sources.containers.shards import expand_braces, is_pattern
from frostline.features.sources.files import TICK_NS
from frostline.features.sources.remote.access import Access
from frostline.features.sources.remote.source import opened_cache
from frostline.features.sources.remote.stores.connections import Connections
from frostline.features.sources.remote.stores.store import MISSING, UNKNOWN, Found, version_of
from frostline.features.sources.remote.urls import WEB, key_of, scheme, shown, top_of
from frostline.features.table import STAMP_BYTES, ImageSource
from frostline.system.atomic import write_file

_HALF = STAMP_BYTES // 2


class Copies:
    """Local copies of remote files, in one folder, which is deleted in the end.

    The copies lie in the byte cache if there is one, and the folder holds links to them.

    Args:
        connections: Connections to the stores.
        access: How data are read.
    """

    def __init__(self, connections: Connections, access: Access) -> None:
        self._connections, self._access = connections, access
        self._cache = opened_cache(access)
        self._stack = ExitStack()
        self.folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="frostline-"))

    def add(self, url: str, name: str, found: Found) -> tuple[str, Found]:
        """Copy a file; return the path of the copy and what the server says of the file.

        Args:
            url: URL of the file.
            name: Path of the copy below the folder.
            found: What the server says of the file.

        Raises:
            SourceError: The disk has no space for it.
            OSError: It can't be read.
        """
        path = Path(self.folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if self._cache is None:
            free = shutil.disk_usage(self.folder).free
            if found.size > free:
                raise SourceError(
                    f"{shown(url)}: has {found.size:,} bytes, and {self.folder} has {free:,} free; name a folder on a larger"
                    " disk with --byte-cache"
                )
            self._say(url, found)
            with write_file(path, durable=False) as file:
                found = self._connections.save(url, file)
            return str(path), found
        told: list[Found] = []

        def save(file: Any) -> None:
            self._say(url, found)
            told.append(self._connections.save(url, file))

        kept = self._stack.enter_context(self._cache.whole(url, found, save))
        path.symlink_to(kept)
        return str(path), told[-1] if told else found

    def _say(self, url: str, found: Found) -> None:
        size = f", {found.size:,} bytes," if found.size else ""
        self._access.tell(f"{shown(url)}{size} is copied to this machine")

    def close(self) -> None:
        """Delete the folder, and the copies unless they lie in the byte cache. Repeated calls are allowed."""
        self._stack.close()


class CopiedSource(ImageSource):
    """Images in local copies of remote files. A copy of the object in another process reads the same files.

    A stamp holds the size of an image, and the version of all the files.

    Args:
        source: The images in the copies.
        root: URL that the user named, without secrets.
        found: What servers say of the files.
        copies: The copies.
    """

    def __init__(self, source: ImageSource, root: str, found: Sequence[Found], copies: Copies) -> None:
        self.root, self.notes = root, source.notes
        self._source = source
        self._copies: Copies | None = copies
        self._folders = (copies.folder, top_of(root))
        version = version_of(*(f"{each.size} {each.version}" for each in found))
        self._version = version.to_bytes(_HALF, "little", signed=True)
        known = all(each.version != UNKNOWN for each in found)
        self._changed = max(each.changed for each in found) if known else None
        stamps = source.table.stamps.copy()
        stamps[:, _HALF:] = np.frombuffer(self._version, np.uint8)
        self.table = replace(source.table, stamps=stamps)

    def read(self, row: int) -> tuple[bytes, bytes]:
        """Read one image; see `ImageSource.read`."""
        try:
            data, stamp = self._source.read(row)
        except OSError as error:
            reason = translated(error.strerror or str(error), *self._folders)
            raise OSError(error.errno or errno.EIO, reason, self.display_name(row)) from None
        return data, stamp[:_HALF] + self._version

    def display_name(self, row: int) -> str:
        """Return the URL of the file followed by the image's path in it."""
        return translated(self._source.display_name(row), *self._folders)

    def unsettled(self, since: int) -> NDArray[np.bool_]:
        """Return a mask of all images, if their files were changed too close to a time; see `ImageSource.unsettled`."""
        return np.full(len(self.table), self._changed is None or self._changed > since - TICK_NS)

    def close(self) -> None:
        """Delete the copies; see `ImageSource.close`."""
        self._source.close()
        if self._copies is not None:
            self._copies.close()

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the copies, which this process deletes."""
        return {**vars(self), "_copies": None}


def translated(text: str, folder: str, url: str) -> str:
    """Return a text with the folder of the copies replaced by that of the files."""
    real = os.path.realpath(folder)
    for each in (folder, real):
        text = text.replace(f"{each}{os.sep}", url).replace(each, url.rstrip("/"))
    return text


def named_files(connections: Connections, url: str) -> list[str]:
    """Return the URLs of the files that a URL or a pattern names, in order.

    Raises:
        SourceError: Nothing matches, or a web server would have to list a folder.
        OSError: A folder can't be listed.
    """
    if not is_pattern(key_of(url)) or (scheme(url) in WEB and "{" not in url):
        return [url]
    files = []
    for name in expand_braces(url):
        key = name.partition("://")[2]
        if scheme(url) in WEB or not any(character in key for character in "*?["):
            files.append(name)
            continue
        fixed = name[: min(name.find(character) for character in "*?[" if character in name)]
        folder = fixed.rpartition("/")[0] + "/"
        found = connections.find(folder) or []
        wanted = name.removeprefix(folder)
        files += sorted(
            folder + path
            for path, _ in found
            if fnmatchcase(path, wanted) and path.count("/") == wanted.count("/")
        )
    if not files:
        raise SourceError(f"{shown(url)}: no file matches this pattern")
    return list(dict.fromkeys(files))


def copied(
    connections: Connections, urls: list[str], access: Access
) -> tuple[Copies, dict[str, str], list[Found]]:
    """Copy files; return the copies, the path of each by its URL, and what servers say of the files.

    Raises:
        SourceError: A file is missing, or the disk has no space.
        OSError: A file can't be read.
    """
    found = connections.heads(urls)
    missing = [url for url, each in zip(urls, found, strict=True) if each == MISSING]
    if missing:
        raise SourceError(
            f"{shown(missing[0])}: no such file on the server"
            + (f"; {len(missing)} of the {len(urls)} files are missing" if len(urls) > 1 else "")
        )
    names = [_plain(url) for url in urls]
    copies = Copies(connections, access)
    try:
        paths, told = {}, []
        for url, name, each in zip(urls, names, found, strict=True):
            paths[url], now = copies.add(url, name, each)
            told.append(now)
    except BaseException:
        copies.close()
        raise
    return copies, paths, told


def _plain(url: str) -> str:
    """Return the path of a file below its bucket or server, which leads nowhere else on this machine."""
    key = key_of(url)
    parts = key.split("/")
    if not key or {"", ".", ".."} & {*parts} or any(character in key for character in "\\\0:"):
        raise SourceError(
            f"{shown(url)}: this name can't be one of a file here; expected a path without empty parts"
        )
    return key
