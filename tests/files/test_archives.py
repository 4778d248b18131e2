"""Zip archives of arrays whose headers lie."""

import io
import struct
import zipfile

import numpy as np
import pytest

from frostline.files.archives import check_stored


def archive(members, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, data in members:
            file.writestr(name, data)
    return buffer.getvalue()


def array(shape, dtype="<f8", data=b""):
    header = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data


def with_size(data, size):
    """The archive with another size of its first member, in both of its headers."""
    end = data.index(b"PK\x01\x02")
    changed = bytearray(data)
    struct.pack_into("<I", changed, 22, size)
    struct.pack_into("<I", changed, end + 24, size)
    return bytes(changed)


def saved(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def test_archives_of_ours_are_accepted():
    check_stored(saved(a=np.arange(5), b=np.array(["x"]), c=np.array(7), d=np.zeros((0, 3))))
    check_stored(archive([("schema.json", "{}"), ("1.npy", array((2,), data=bytes(16)))]))


WRONG = {
    "no archive": (b"PK\x03\x04", "no whole zip archive"),
    "truncated": (saved(a=np.arange(5))[:-10], "no whole zip archive"),
    "compressed": (archive([("a", "0" * 1000)], zipfile.ZIP_DEFLATED), "is compressed"),
    "8 TiB": (archive([("a.npy", array((1 << 40,)))]), "claims 8796093022208 bytes, and has 0"),
    "a number too large": (archive([("a.npy", array((1 << 80, 1 << 80)))]), "claims"),
    "a negative shape": (archive([("a.npy", array((-1,)))]), "no valid header"),
    "no shape": (archive([("a.npy", array("x"))]), "no valid header"),
    "a deep header": (archive([("a.npy", array("(" * 5000))]), "no valid header"),
    "an unknown dtype": (archive([("a.npy", array((1,), "?!"))]), "no valid header"),
    "a lie about the size": (
        with_size(archive([("a", b"123")]), 1 << 31),
        "claims 2147483648 bytes|no whole zip",
    ),
    "a wrong checksum": (archive([("a", b"123456")]).replace(b"123456", b"123457"), "no whole zip archive"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_lies_is_refused_before_it_is_unpacked(name):
    data, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        check_stored(data)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two members of one name"):
        check_stored(archive([("a", "1"), ("a", "2")]))
