"""Zip archives."""

import errno
import os
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from frostline.features.errors import SourceError
from frostline.features.sources.archives.members import inner_path, last_of_each, read_exactly
from frostline.features.sources.containers.container import Container
from frostline.features.sources.stats import stat_fields
from frostline.system.files import open_regular

_HEADER = struct.Struct("<4s22xHH")  # signature, length of the name, length of the extra field
_ENCRYPTED = 1


@dataclass(frozen=True)
class _Entry:
    offset: int
    packed: int
    crc: int
    method: int
    flags: int


@dataclass(frozen=True, eq=False)
class ZipArchive(Container):
    """Files in a zip archive, stored or deflated.

    Attributes:
        entries: Place of each file, and how it is packed.
    """

    entries: Sequence[_Entry]

    def reopened(self) -> "ZipArchive":
        """Return the archive as it is now."""
        return open_zip(self.path)

    def _read(self, fd: int, index: int) -> bytes:
        entry, where = self.entries[index], self.location(index)
        if entry.flags & _ENCRYPTED:
            raise OSError(errno.EACCES, "the file is encrypted; unpack the archive", where)
        signature, name, extra = _HEADER.unpack(read_exactly(fd, _HEADER.size, entry.offset, where))
        if signature != b"PK\3\4":
            raise OSError(errno.EIO, "the archive is damaged: no file begins at its place", where)
        packed = read_exactly(fd, entry.packed, entry.offset + _HEADER.size + name + extra, where)
        data = _unpacked(packed, entry.method, self.sizes[index], where)
        if len(data) != self.sizes[index] or zlib.crc32(data) != entry.crc:
            raise OSError(errno.EIO, "the archive is damaged: the file's checksum differs", where)
        return data


def _unpacked(data: bytes, method: int, size: int, where: str) -> bytes:
    if method == zipfile.ZIP_STORED:
        return data
    if method != zipfile.ZIP_DEFLATED:
        name = zipfile.compressor_names.get(method, method)  # type: ignore[attr-defined]
        raise OSError(errno.ENOTSUP, f"the file is packed by {name}; expected stored or deflated", where)
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)  # never more than was said
    except zlib.error as error:
        raise OSError(errno.EIO, f"the archive is damaged: {error}", where) from None


def open_zip(path: str) -> ZipArchive:
    """Find the files of a zip archive.

    Raises:
        OSError: The archive can't be read.
        SourceError: The archive is damaged, or a path in it leads outside.
    """
    with open(open_regular(path), "rb") as stream:  # noqa: PTH123  # a descriptor
        status = os.fstat(stream.fileno())
        try:
            with zipfile.ZipFile(stream) as archive:
                found = [info for info in archive.infolist() if not info.filename.endswith("/")]
        except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, struct.error) as error:
            raise SourceError(
                f"{path}: not a readable zip archive: {error}. Restore it, if it is not complete"
            ) from error
    names = [inner_path(info.filename, path) for info in found]
    kept, replaced = last_of_each(names)
    remark = f"{replaced} files in it are older than others of the same name, and were skipped"
    return ZipArchive(
        path,
        stat_fields(status),
        [names[index] for index in kept],
        [found[index].file_size for index in kept],
        (remark,) if replaced else (),
        [_entry(found[index]) for index in kept],
    )


def _entry(info: zipfile.ZipInfo) -> _Entry:
    return _Entry(info.header_offset, info.compress_size, info.CRC, info.compress_type, info.flag_bits)
