"""Files made to mislead, by kind: each is written into a folder by a function, and every command that takes the kind must
refuse it in one line.

`HOSTILE` lists them; `write` makes one. Other suites may use the table as well.
"""

import io
import json
import os
import socket
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Hostile:
    """A file made to mislead.

    Attributes:
        kind: What it pretends to be: ``image``, ``cache``, ``record``, ``tensors``, ``manifest``, ``tar``, ``zip``,
            ``array``, ``study`` or ``any``.
        name: What is wrong with it.
        make: Function that writes it at a path.
    """

    kind: str
    name: str
    make: Callable[[Path], None]

    def __str__(self):
        return f"{self.kind}: {self.name}"


def content(data):
    """Maker of a file with these bytes."""
    return lambda path: path.write_bytes(data)


def _fifo(path):
    os.mkfifo(path)


def _socket(path):
    with socket.socket(socket.AF_UNIX) as made:
        here = Path.cwd()
        os.chdir(path.parent)  # the address of a socket is short
        try:
            made.bind(path.name)
        finally:
            os.chdir(here)


def _loop(path):
    path.symlink_to(path.name)


def _device(path):
    path.symlink_to("/dev/zero")


def _sparse(path):
    with path.open("wb") as file:
        file.truncate(20 << 30)


def _png(width, height, rows=b"", chunk=b"IDAT"):
    def piece(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + piece(b"IHDR", header)
        + piece(chunk, zlib.compress(rows))
        + piece(b"IEND", b"")
    )


def _npz(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("content.npy", bytes(64 << 20))


def _tensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def _hdf5(**attributes):
    import h5py

    data = io.BytesIO()
    with h5py.File(data, "w") as file:
        for name, value in attributes.items():
            file.attrs[name] = value
    return data.getvalue()


def _hdf5_external(path):
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["format"] = np.bytes_("frostline-cache")
        file.attrs["format_version"] = np.int64(1)
        file["spec"] = h5py.ExternalLink("/etc/passwd", "/spec")


DEEP = b"[" * 100_000 + b"]" * 100_000


def _tar(*names, size=None, kind=tarfile.REGTYPE, link=""):
    def make(path):
        with tarfile.open(path, "w") as archive:
            for name in names:
                member = tarfile.TarInfo(name)
                member.type, member.linkname, member.size = kind, link, 0
                archive.addfile(member)
        if size is not None:  # said by the first header, with its checksum right
            data = bytearray(path.read_bytes())
            data[124:136] = size
            data[148:156] = b" " * 8
            data[148:156] = b"%06o\0 " % sum(data[:512])
            path.write_bytes(data)

    return make


def _zip(name, data=b"x", patch=()):
    def make(path):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, data)
        whole = bytearray(path.read_bytes())
        entry = whole.rindex(b"PK\1\2")
        for place, value in patch:
            struct.pack_into("<I", whole, entry + place, value)
        path.write_bytes(whole)

    return make


def _npy(shape, kind="|u1", data=b""):
    text = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return content(b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + data)


HOSTILE = (
    Hostile("any", "empty", content(b"")),
    Hostile("any", "zeros", content(bytes(4096))),
    Hostile("any", "a pipe", _fifo),
    Hostile("any", "a socket", _socket),
    Hostile("any", "a folder", Path.mkdir),
    Hostile("any", "a link to itself", _loop),
    Hostile("any", "a device", _device),
    Hostile("any", "20 GB", _sparse),
    Hostile("any", "text that is not UTF-8", content(b"\xff\xfe\xfa" * 100)),
    Hostile("image", "PostScript", content(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")),
    Hostile("image", "10 gigapixels", content(_png(100_000, 100_000))),
    Hostile("image", "no pixels", content(_png(0, 0))),
    Hostile("image", "cut after its header", content(_png(8, 8)[:40])),
    Hostile(
        "image",
        "a text chunk that expands",
        content(_png(8, 8, b"x\0\0" + zlib.compress(bytes(1 << 26)), b"zTXt")),
    ),
    Hostile(
        "image",
        "markup",
        content(b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>"),
    ),
    Hostile("cache", "HDF5 of something else", content(_hdf5(title="x"))),
    Hostile(
        "cache",
        "of a later version",
        content(_hdf5(format=np.bytes_("frostline-cache"), format_version=np.int64(99))),
    ),
    Hostile(
        "cache",
        "no data sets",
        content(_hdf5(format=np.bytes_("frostline-cache"), format_version=np.int64(1))),
    ),
    Hostile("cache", "a link to another file", _hdf5_external),
    Hostile("cache", "a signature alone", content(b"\x89HDF\r\n\x1a\n" + b"\xff" * 200)),
    Hostile("record", "nested 100,000 deep", content(DEEP)),
    Hostile("record", "a list", content(b"[]")),
    Hostile("record", "an empty object", content(b"{}")),
    Hostile("record", "numbers of 5,000 digits", content(b'{"format_version": ' + b"9" * 5000 + b"}")),
    Hostile("record", "not a number", content(b'{"format_version": NaN}')),
    Hostile("record", "lone surrogates", content(b'{"\\ud800": "\\udfff"}')),
    Hostile("tensors", "a header of 8 EiB", content(struct.pack("<Q", 1 << 63) + b"{}")),
    Hostile(
        "tensors",
        "offsets beyond the end",
        content(_tensors({"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}})),
    ),
    Hostile(
        "tensors",
        "a shape of 2**62",
        content(_tensors({"x": {"dtype": "U8", "shape": [1 << 62], "data_offsets": [0, 0]}})),
    ),
    Hostile("tensors", "no tensors", content(_tensors({}))),
    Hostile("tensors", "a header nested deep", content(_tensors(DEEP[:20_000]))),
    Hostile("tensors", "a pickle", content(b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.")),
    Hostile("tensors", "an archive that expands", _npz),
    Hostile("manifest", "no columns", content(b"\n\n\n")),
    Hostile("manifest", "an open quotation mark", content(b'path,label\n"a.png,x\n')),
    Hostile("manifest", "a path with a zero byte", content(b"path,label\na\0b.png,x\n")),
    Hostile("manifest", "a path above all", content(b"path,label\n../../../../etc/passwd,x\n")),
    Hostile("manifest", "a row too short", content(b"path,label\nx\n")),
    Hostile("manifest", "a cell of 1 MB", content(b"path,label\n" + b"a" * (1 << 20) + b",x\n")),
    Hostile("tar", "a path above all", _tar("../../etc/x.png")),
    Hostile("tar", "a negative size", _tar("a/1.png", "a/2.png", size=b"\xff" * 12)),
    Hostile("tar", "a size of 2**60", _tar("a/1.png", size=b"\x80\0\0\0\x10" + bytes(7))),
    Hostile("tar", "only links", _tar("a/1.png", kind=tarfile.SYMTYPE, link="/etc/passwd")),
    Hostile("tar", "a device", _tar("a/1.png", kind=tarfile.CHRTYPE)),
    Hostile("tar", "no image", _tar("readme.txt")),
    Hostile("tar", "a name with a zero byte", _tar("a/1.png\0.txt", "../2.png")),
    Hostile("zip", "a path above all", _zip("../x.png")),
    Hostile("zip", "a place beyond the end", _zip("a/1.png", patch=[(42, 1 << 30)])),
    Hostile("zip", "a size of 4 GB", _zip("a/1.png", patch=[(24, 0xFFFFFFF0)])),
    Hostile("zip", "a file that expands", _zip("a/1.png", bytes(64 << 20))),
    Hostile("zip", "no image", _zip("readme.txt")),
    Hostile("zip", "an end alone", content(b"PK\5\6" + bytes(18))),
    Hostile("array", "a shape of 2**60", _npy((1 << 60, 4, 4))),
    Hostile("array", "a negative shape", _npy((-3, 4, 4))),
    Hostile("array", "a shape of no numbers", _npy(("x", 4, 4))),
    Hostile("array", "objects", _npy((3, 4, 4), "|O", b"\x80\x04cposix\nsystem\n")),
    Hostile("array", "fewer bytes than it says", _npy((3, 4, 4), data=b"x")),
    Hostile("array", "a header nested deep", content(b"\x93NUMPY\1\0\x88\x13" + b"(" * 5000)),
    Hostile("study", "not TOML", content(b"= = =")),
    Hostile("study", "nested deep", content(b"x = " + b"[" * 50_000 + b"]" * 50_000)),
    Hostile("study", "tables of another kind", content(b"batch = 3\nextract = 'x'\n")),
    Hostile("study", "no jobs", content(b"[batch]\ndata = 'data'\n")),
    Hostile("study", "a number of 5,000 digits", content(b"[batch]\nseeds = [" + b"9" * 5000 + b"]\n")),
)


def of_kind(*kinds):
    """Hostile files of the kinds, and those that pretend to be nothing."""
    return [each for each in HOSTILE if each.kind in {*kinds, "any"}]
