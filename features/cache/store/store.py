"""Store of features: a folder of finished caches of one specification, each written once and never changed."""

import contextlib
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frostline.features.cache.file.mapped import MappedFile
from frostline.features.cache.file.trust import NewerFormatError
from frostline.features.cache.store.index import IndexedFile
from frostline.features.cache.store.joining import join_files
from frostline.features.content import as_keys
from frostline.features.errors import CacheFormatError, ChecksumError, SourceError
from frostline.system.atomic import locked, names_in
from frostline.system.files import create_folders, resolved

_MANY = 8  # files of similar size, from which they are joined
_SUFFIX = ".h5"
_UNFINISHED = f"{_SUFFIX}.partial"
_ATTEMPTS = 10  # to list the files while other processes join them


@dataclass(eq=False)
class _Opened:
    """Files of a store that this process has opened, by name.

    Attributes:
        usable: Indexed files.
        broken: Names of the files that can't be opened because they are damaged.
        newer: Names of the files of later versions, which are left alone.
    """

    usable: dict[str, IndexedFile] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    newer: set[str] = field(default_factory=set)


_opened: dict[tuple[Path, str], _Opened] = {}
"""What this process has opened, by the folder of the store and the digest of its specification."""

_lock = threading.Lock()


class FeatureStore:
    """Store of the features of one specification.

    Any number of threads and processes may read a store while one holds the lock and adds to it.

    Args:
        folder: Folder of the store, which need not exist.
        digest: Digest of the specification. Files of another one are not read.
        warn: Receiver of messages about damaged files.
    """

    def __init__(self, folder: Path, digest: str, warn: Callable[[str], None]) -> None:
        self.folder, self._digest, self._warn = resolved(folder), digest, warn
        if self.folder.exists() and not self.folder.is_dir():
            raise SourceError(
                f"cache: {self.folder} is a file; expected a folder, which is made if it is missing"
            )
        with _lock:
            self._files = _opened.setdefault((self.folder, digest), _Opened())

    def read(self, content: NDArray[np.uint8], layer: str, out: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Copy the features of all images that the store holds.

        Rows that are damaged are left out with a warning.

        Args:
            content: (n, 16) uint8 digests of the images, zero for none.
            layer: Key of the layer.
            out: (n, dim) array. Rows of images that the store doesn't hold are not changed.

        Returns:
            (n,) bool mask of the images that the store holds.
        """
        wanted = as_keys(content)
        found = np.zeros(len(wanted), bool)
        left = np.flatnonzero(content.any(axis=1))
        for file in self._refreshed():
            if not len(left):
                break
            rows = file.find(wanted[left])
            here, rows = left[rows >= 0], rows[rows >= 0]
            before = file.damaged
            try:
                found[here] = file.copy(layer, rows, out, here)
            except ChecksumError:  # truncated since it was opened
                file.damaged, file.keys, file.rows = True, file.keys[:0], file.rows[:0]
            if file.damaged and not before:
                self._tell(file.file.path)
            left = left[~found[left]]
        return found

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Lock the store for the duration of the block; wait while another thread or process holds the lock.

        First, what killed processes left is put in order: committed features of unfinished files are kept, and damaged
        files are replaced by their undamaged features.

        Raises:
            OSError: The folder can't be written.
        """
        with contextlib.ExitStack() as stack:
            try:
                create_folders(self.folder)
                stack.enter_context(locked(self.folder / "lock", wait=True))
            except OSError as error:
                error.add_note(
                    "The store of features can't be written; choose another folder with cache=FOLDER"
                )
                raise
            self._repair()
            yield

    def new_path(self) -> Path:
        """Return the path of a new file of the store."""
        return self.folder / f"{secrets.token_hex(8)}{_SUFFIX}"

    def any_path(self) -> Path | None:
        """Return the path of a file of the store, or None if there is none."""
        return next((file.file.path for file in self._refreshed()), None)

    def is_damaged(self) -> bool:
        """Return whether damage was found in a file that is still there."""
        return bool(self._files.broken) or any(each.damaged for each in list(self._files.usable.values()))

    def discard(self, path: Path) -> None:
        """Delete a file of the store. The lock must be held."""
        self._replace([path], ())

    def compact(self) -> None:
        """Join the smallest files if many are of similar size, so that few remain. The lock must be held.

        A file is rewritten about once whenever the store doubles.
        """
        files = sorted(self._refreshed(), key=lambda each: each.file.layout.rows)
        rows = np.array([each.file.layout.rows for each in files])
        similar = rows[1:] <= 2 * np.cumsum(rows)[:-1]
        count = 1 + (len(similar) if similar.all() else int(similar.argmin()))
        if count >= _MANY:
            with contextlib.suppress(OSError):  # a full disk: all files are as before
                self._replace(
                    [each.file.path for each in files[:count]], [each.file for each in files[:count]]
                )

    def _refreshed(self) -> list[IndexedFile]:
        """Return the usable files that are there now, the oldest first."""
        with _lock:
            for _ in range(_ATTEMPTS):
                try:
                    return self._list()
                except FileNotFoundError:  # joined with others since the folder was listed
                    continue
            return self._list()

    def _list(self) -> list[IndexedFile]:
        names = {name for name in names_in(self.folder) if name.endswith(_SUFFIX)}
        known = self._files
        known.broken &= names
        for gone in known.usable.keys() - names:
            del known.usable[gone]
        for name in sorted(names - known.usable.keys() - known.broken - known.newer):
            self._open(name)
        return [each for each in known.usable.values() if each.file.layout.spec.digest == self._digest]

    def _open(self, name: str) -> None:
        path = self.folder / name
        try:
            file = self._files.usable[name] = IndexedFile.open(path)
        except NewerFormatError as error:
            self._files.newer.add(name)
            self._warn(f"{error}. Its features are computed again")
        except (CacheFormatError, ChecksumError):
            self._files.broken.add(name)
            self._tell(path)
        else:
            if file.damaged:
                self._tell(path)

    def _tell(self, path: Path) -> None:
        self._warn(
            f"{path}: this file of the store of features is damaged; the damaged features are computed again"
        )

    def repair(self) -> None:
        """Repair damaged files where the folder can be written."""
        with contextlib.suppress(OSError), self.writing():
            pass

    def _repair(self) -> None:
        """Replace unfinished and damaged files by what is undamaged of them. The lock must be held."""
        left = [self.folder / name for name in names_in(self.folder) if name.endswith(_UNFINISHED)]
        left += [each.file.path for each in self._refreshed() if each.damaged]
        left += [self.folder / name for name in self._files.broken]
        opened = {path: _reopened(path) for path in left}
        mine = {
            path: file for path, file in opened.items() if not file or file.layout.spec.digest == self._digest
        }
        if mine:
            self._replace(list(mine), [file for file in mine.values() if file])

    def _replace(self, paths: Sequence[Path], files: Sequence[MappedFile]) -> None:
        """Replace files by one that has their undamaged features."""
        if files:
            join_files(self.new_path(), files)
        with _lock:
            for path in paths:
                self._files.usable.pop(path.name, None)
                self._files.broken.discard(path.name)
        for path in paths:
            with contextlib.suppress(PermissionError):  # in use (Windows): it is deleted later
                path.unlink(missing_ok=True)


def _reopened(path: Path) -> MappedFile | None:
    """Open a file anew, so that its checksums are looked at again; None if it can't be opened."""
    try:
        return MappedFile.open(path)
    except (OSError, CacheFormatError):  # among them ChecksumError
        return None
