"""Tar archives."""

import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, BinaryIO, cast

import numpy as np

from frostline.features.errors import SourceError
from frostline.features.sources.archives.members import inner_path, last_of_each, read_exactly
from frostline.features.sources.containers.container import Container
from frostline.features.sources.stats import stat_fields
from frostline.system.files import open_regular

_BLOCK = tarfile.BLOCKSIZE
_CHUNK = 1 << 20  # bytes
_LONGEST = 1 << 20  # bytes of a record that says more of a file, such as its long name


class _Headers:
    """Archive of which `tarfile` reads headers only. A record of any length would be read into memory otherwise."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int) -> bytes:
        if size > _LONGEST:
            raise tarfile.ReadError(
                f"a header claims a record of {size:,} bytes; expected at most {_LONGEST:,}"
            )
        return self._stream.read(size)


@dataclass(frozen=True, eq=False)
class TarArchive(Container):
    """Files in an uncompressed tar archive.

    Attributes:
        offsets: Position of the bytes of each file in the archive.
    """

    offsets: Sequence[int]

    def reopened(self) -> "TarArchive":
        """Return the archive as it is now."""
        return open_tar(self.path)

    def _read(self, fd: int, index: int) -> bytes:
        return read_exactly(fd, self.sizes[index], self.offsets[index], self.location(index))


def open_tar(path: str) -> TarArchive:
    """Find the files of an uncompressed tar archive, in one pass over its headers. Links are files of their own.

    Raises:
        OSError: The archive can't be read.
        SourceError: The archive is damaged, or a path in it leads outside.
    """
    names: list[str] = []
    places: list[tuple[int, int]] = []  # offset and size
    by_name: dict[str, tuple[int, int]] = {}
    with open(open_regular(path), "rb") as stream:  # noqa: PTH123  # a descriptor
        status = os.fstat(stream.fileno())
        end, others = 0, 0
        for member, end in _headers(stream, path, status.st_size):  # noqa: B007  # used after the loop
            name = inner_path(member.name, path) if not member.isdir() else ""
            if member.isreg() and not member.issparse():
                place = (member.offset_data, member.size)
            elif (member.islnk() or member.issym()) and (target := _target(member, by_name)):
                place = target
            else:
                others += not member.isdir()
                continue
            names.append(name)
            places.append(place)
            by_name[name] = place
        remarks = [*_end_remarks(stream, end, status.st_size)]
    kept, replaced = last_of_each(names)
    if others:
        remarks.append(f"{others} links, devices or sparse files in it were skipped")
    if replaced:
        remarks.append(f"{replaced} files in it are older than others of the same name, and were skipped")
    offsets, sizes = np.array([places[index] for index in kept], np.int64).reshape(-1, 2).T
    return TarArchive(
        path,
        stat_fields(status),
        [names[index] for index in kept],
        sizes.tolist(),
        tuple(remarks),
        offsets.tolist(),
    )


def _headers(stream: BinaryIO, path: str, size: int) -> Iterator[tuple[tarfile.TarInfo, int]]:
    """Yield each header with the position of the next one."""
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", _Headers(stream)), mode="r:") as archive:
            before = -1
            while member := archive.next():
                archive.members = []  # type: ignore[attr-defined]  # which grow to gigabytes otherwise
                _check_place(member, before, path, size)
                before = member.offset_data
                yield member, archive.offset
            _check_end(stream, path, archive.offset, size)
    except SourceError:
        raise
    except (tarfile.TarError, ValueError, EOFError, OverflowError, RecursionError) as error:
        raise SourceError(
            f"{path}: not a readable tar archive: {error}. Restore it, if it is not complete; uncompress it, if it is"
            " compressed as a whole"
        ) from error


def _check_place(member: tarfile.TarInfo, before: int, path: str, size: int) -> None:
    """Raise `SourceError` for a file that does not lie after the one before, as damaged headers say, or not whole."""
    if member.size < 0 or member.offset_data <= before:
        raise SourceError(_damaged(path, before))
    if member.isreg() and member.offset_data + member.size > size:
        raise SourceError(
            f"{path}: the archive ends within {member.name!r}, at byte {size:,}; it is not complete. Restore it"
        )


def _check_end(stream: BinaryIO, path: str, offset: int, size: int) -> None:
    """Raise `SourceError` if the headers end at something else than the mark of the end."""
    stream.seek(min(offset, size))
    block = stream.read(_BLOCK)
    # `tarfile` ends at a damaged header as it does at the block of zeros that marks the end.
    if block.strip(b"\0"):
        raise SourceError(_damaged(path, offset))


def _damaged(path: str, offset: int) -> str:
    return f"{path}: the archive is damaged at byte {max(offset, 0):,}; the files after it can't be found. Restore it"


def _end_remarks(stream: BinaryIO, end: int, size: int) -> Iterator[str]:
    """Yield a remark if the archive has no mark of its end, or holds more after it."""
    if end >= size:
        yield "it has no end mark, so files may be missing from its end"
        return
    stream.seek(end)
    if stream.read(_CHUNK).strip(b"\0"):
        yield "it has more bytes after its end, as joined archives have; only the first archive was read"


def _target(member: tarfile.TarInfo, places: dict[str, tuple[int, int]]) -> tuple[int, int] | None:
    """Return the place of the file that a link names; None for a folder, or a file that does not come before it."""
    folder = os.path.dirname(member.name) if member.issym() else ""  # noqa: PTH120  # not a path on this machine
    name = os.path.normpath(f"{folder}/{member.linkname}".replace("\\", "/")).replace(os.sep, "/")
    return places.get(name.lstrip("/"))
