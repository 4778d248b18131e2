"""Output files and folders: each is complete under its own name, or not there.

A file or folder is written beside its place as ``.NAME.RANDOM.partial``, synced to the disk and renamed. It is locked
while it is written, so that what a killed process left can be told from what another process is writing. Leftovers are
deleted by the next process that writes the same file or folder.
"""

import contextlib
import errno
import io
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Self, TextIO

from frostline.system.files import (
    allocate,
    check_regular,
    create_folders,
    create_new,
    named,
    open_binary,
    read_regular,
    rename,
    sync,
    sync_folder,
    write_all,
)
from frostline.system.locks import FileLock, LockHeldError, LocksUnsupportedError

# The second form was written by earlier versions.
_LEFTOVER = re.compile(r"([a-z0-9_]{8}|\d+-\d+)\.partial")
_ANY_LEFTOVER = re.compile(rf"\..+\.{_LEFTOVER.pattern}", re.DOTALL)


def replace_file(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file atomically; see `write_file`."""
    with write_file(path, durable=durable) as file:
        file.write(data)


@contextmanager
def write_file(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Yield a file that takes its place at `path` when the block ends without an error.

    The folder is created if needed. If the process is killed at any moment, either the whole old file or the whole
    new file remains. Of several concurrent writers, the last to finish wins. A symbolic link at `path` is replaced;
    what it leads to is not changed.

    Args:
        path: The file.
        durable: Whether to wait until the file is on the disk. If not, a power failure may leave an empty file, which
            its reader has to detect.

    Raises:
        OSError: The file can't be written, or something else than a file is there. An existing file is unchanged.
    """
    with _Unpublished.at(path) as unpublished, named(path):
        yield unpublished.file
        unpublished.finish(durable=durable)
        unpublished.publish(durable=durable)


@contextmanager
def write_text_file(path: Path) -> Iterator[TextIO]:
    """Yield a text file in UTF-8 without translation of line ends; see `write_file`."""
    with write_file(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        yield text
        text.detach()


def replace_files(files: Mapping[Path, bytes], *, outdated: Iterable[Path] = ()) -> None:
    """Write files of one folder that belong together, of which the last says that all are there.

    All are on the disk before the first takes its place, so that a full disk changes nothing. The last is not there
    while the others change.

    Args:
        files: Content of each file.
        outdated: Files that belong to the earlier content, and are deleted.

    Raises:
        OSError: A file can't be written.
    """
    with write_files(*files, outdated=outdated) as opened:
        for file, (path, data) in zip(opened, files.items(), strict=True):
            with named(path):
                file.write(data)


@contextmanager
def write_files(*paths: Path, outdated: Iterable[Path] = ()) -> Iterator[tuple[BinaryIO, ...]]:
    """Yield files of one folder that belong together, of which the last says that all are there.

    They take their places when the block ends without an error; see `replace_files`.
    """
    with ExitStack() as stack:
        found = [stack.enter_context(_Unpublished.at(path)) for path in paths]
        with named(paths[-1]):
            yield tuple(unpublished.file for unpublished in found)
        for unpublished in found:
            with named(unpublished.path):
                unpublished.finish()
        last = found[-1].path
        last.unlink(missing_ok=True)
        for path in outdated:
            path.unlink(missing_ok=True)
        sync_folder(last.parent)
        for unpublished in found:
            unpublished.publish()


def check_place(path: Path, size: int) -> None:
    """Check that a file can be written to a place now, before work that can't be repeated.

    Args:
        path: The file, which is not changed.
        size: Bytes that the disk must have space for.

    Raises:
        OSError: The folder can't be written, or the disk has less space.
    """
    with _Unpublished.at(path) as unpublished, named(path):
        allocate(unpublished.file.fileno(), size)


@contextmanager
def write_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty folder that becomes `path` when the block ends without an error.

    The files in it are written with the other functions of this module.

    Args:
        path: The folder.
        replace: Whether to delete an earlier folder at `path` once the new one is complete. A process that is killed
            between the two leaves nothing at `path`.

    Raises:
        FileExistsError: Something is at `path`, and is not to be replaced, or is no folder.
        OSError: The folder can't be written.
    """
    create_folders(path.parent)
    sweep(path)
    partial, lock = _new_partial(path, Path.mkdir, folder=True)
    try:
        yield partial
        with named(path):
            for folder, _, _ in os.walk(partial, topdown=False):
                sync_folder(Path(folder))
        aside = _put_aside(path) if replace else None
        try:
            _rename_new(partial, path)
        except OSError:
            if aside:
                rename(aside, path)
            raise
        if replace:
            sweep(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    finally:
        if lock:
            lock.release()


def _rename_new(old: Path, new: Path) -> None:
    if os.path.lexists(new):  # an empty folder would be replaced
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(new))
    rename(old, new)


def _put_aside(path: Path) -> Path | None:
    """Rename a folder, if there is one, to a name that `sweep` deletes; return that name."""
    if not path.is_dir() or path.is_symlink():
        return None
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    rename(path, aside)
    return aside


def copy_folder(source: Path, target: Path) -> None:
    """Copy a folder with all files in it."""
    for folder, _, names in os.walk(source):
        for name in names:
            file = Path(folder) / name
            with file.open("rb") as content, write_file(target / file.relative_to(source)) as copy:
                shutil.copyfileobj(content, copy)


def sweep(path: Path) -> None:
    """Delete what killed processes left of a file or folder that they were writing to `path`."""
    prefix = f".{path.name}."
    for name in names_in(path.parent):
        if name.startswith(prefix) and _LEFTOVER.fullmatch(name, len(prefix)):
            delete_unused(path.with_name(name))


def sweep_folder(folder: Path) -> None:
    """Delete what killed processes left of files and folders that they were writing to a folder."""
    for name in names_in(folder):
        if name.startswith(".") and _ANY_LEFTOVER.fullmatch(name):
            delete_unused(folder / name)


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder; none if it can't be read."""
    try:
        return os.listdir(folder)  # noqa: PTH208  # names are enough
    except OSError:
        return []


def delete_unused(path: Path) -> None:
    """Delete a file or folder unless a process has locked it, or that can't be known. A link is not followed."""
    with contextlib.suppress(OSError, LockHeldError):
        mode = path.lstat().st_mode
        folder = stat.S_ISDIR(mode)
        if not folder and not stat.S_ISREG(mode):
            return
        lock = FileLock.acquire(path, folder=folder)
        try:
            if folder:
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        finally:
            lock.release()


@contextmanager
def locked(path: Path, *, folder: bool = False, wait: bool = False, delete: bool = False) -> Iterator[None]:
    """Lock a file or folder for the duration of the block; see `FileLock`. A file system without locks is accepted.

    Args:
        path: The file, created if it is missing, or the folder.
        folder: Whether it is a folder.
        wait: Whether to wait while another process holds the lock.
        delete: Whether to delete the file afterwards, which has no other use than to be locked.

    Raises:
        LockHeldError: Another process holds the lock.
        OSError: The file can't be opened.
    """
    lock = _lock_where_supported(path, folder=folder, wait=wait)
    try:
        yield
    finally:
        if lock:
            lock.release(delete=delete)


class AppendedFile:
    """File to which lines are appended, each as a whole or not at all. It is locked while it is open."""

    def __init__(self, path: Path, fd: int) -> None:
        self._path, self._fd = path, fd

    @classmethod
    @contextmanager
    def open(cls, path: Path, *, wait: bool = False) -> Iterator[Self]:
        """Open a file, which is created with its folder if it is missing.

        A file system without locks is accepted.

        Args:
            path: The file. A link is refused.
            wait: Whether to wait while another process has the file open.

        Raises:
            LockHeldError: Another process has the file open.
            OSError: The file can't be opened.
        """
        create_folders(path.parent)
        with locked(path, wait=wait):
            fd = open_binary(path)
            try:
                yield cls(path, fd)
            finally:
                os.close(fd)

    def read(self, limit: int | None = None) -> bytes:
        """Return the whole content.

        Raises:
            OSError: It has more bytes than `limit`, or can't be read.
        """
        return read_regular(self._path, limit)

    def cut(self, size: int) -> None:
        """Drop everything after the first `size` bytes."""
        with named(self._path):
            os.ftruncate(self._fd, size)

    def overwrite(self, line: bytes, start: int) -> None:
        """Write a line over everything from byte `start` on.

        Raises:
            OSError: The line can't be written. What the file holds from `start` on is then undefined, but not nothing.
        """
        with named(self._path):
            write_all(self._fd, memoryview(line + b"\n"), start)
            self.cut(start + len(line) + 1)
            sync(self._fd)

    def append(self, line: bytes) -> None:
        """Append a line, and wait until it is on the disk. If that fails, the file is as before.

        Raises:
            OSError: The line can't be written.
        """
        end = os.fstat(self._fd).st_size
        try:
            with named(self._path):
                write_all(self._fd, memoryview(line + b"\n"), end)
                sync(self._fd)
        except BaseException:
            with contextlib.suppress(OSError):
                self.cut(end)
            raise
        if not end:
            sync_folder(self._path.parent)


class _Unpublished:
    """A file that is being written beside its place."""

    def __init__(self, path: Path, partial: Path, lock: FileLock | None, file: BinaryIO) -> None:
        self.path, self._partial, self._lock, self.file = path, partial, lock, file

    @classmethod
    @contextmanager
    def at(cls, path: Path) -> Iterator[Self]:
        create_folders(path.parent)
        check_regular(path, missing_ok=True)
        sweep(path)
        partial, lock = _new_partial(path, create_new)
        try:
            with contextlib.closing(cls(path, partial, lock, os.fdopen(open_binary(partial), "wb"))) as found:
                yield found
        finally:
            partial.unlink(missing_ok=True)
            if lock:
                lock.release()

    def finish(self, *, durable: bool = True) -> None:
        """Close the file, with all content on the disk."""
        self.file.flush()
        if durable:
            sync(self.file.fileno())
        self.file.close()  # Windows renames no open file

    def publish(self, *, durable: bool = True) -> None:
        """Give the file its name."""
        if durable:
            rename(self._partial, self.path)
        else:
            self._partial.replace(self.path)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # writes what is buffered, which failed before
            self.file.close()


def _new_partial(
    path: Path, create: Callable[[Path], None], *, folder: bool = False
) -> tuple[Path, FileLock | None]:
    """Create and lock a file or folder beside `path`."""
    while True:
        partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
        try:
            create(partial)
        except FileExistsError:
            continue
        try:
            return partial, _lock_where_supported(partial, folder=folder)
        except (LockHeldError, FileNotFoundError):
            continue  # another process took it for a leftover before it was locked
        except BaseException:
            with contextlib.suppress(OSError):
                partial.rmdir() if folder else partial.unlink()
            raise


def _lock_where_supported(path: Path, *, folder: bool = False, wait: bool = False) -> FileLock | None:
    try:
        return FileLock.acquire(path, folder=folder, wait=wait)
    except LocksUnsupportedError:
        return None
