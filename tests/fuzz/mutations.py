"""Changes of valid files: of bytes, and of the parts of JSON, zip, safetensors and HDF5 with lengths and checksums right."""

import gzip
import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np

INTERESTING = (
    0,
    1,
    -1,
    127,
    128,
    255,
    256,
    65535,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**53 + 1,
    2**63 - 1,
    -(2**63),
)
TOKENS = (
    b"\0",
    b"\n",
    b"\r\n",
    b'"',
    b"'",
    b"{",
    b"[",
    b"]]",
    b"[[",
    b"=",
    b",",
    b"\\",
    b"\xff",
    b"\xed\xa0\x80",
    b"nan",
    b"1e999",
    b"-0",
    b"../",
    b"\xef\xbb\xbf",
)
VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**63,
    -(2**70),
    1e308,
    -0.0,
    "",
    "\ud800",
    "x" * 300,
    "../../x",
    "\x1b[31m",
    [],
    {},
    [[]],
    [None],
    {"": None},
    ["a"] * 50,
)

Mutation = Callable[[bytes, random.Random], bytes]


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Change, insert, repeat or cut some bytes."""
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        at, size = rng.randrange(len(made) + 1), rng.choice((1, 2, 4, 8, 64, 500))
        kind = rng.randrange(7)
        if kind == 0 and at < len(made):
            made[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            made[at : at + size] = rng.randbytes(size)
        elif kind == 2:
            del made[at : at + size]
        elif kind == 3:
            made[at:at] = made[at : at + size]
        elif kind == 4:
            made[at:at] = rng.choice(TOKENS)
        elif kind == 5:
            width, order = rng.choice((1, 2, 4, 8)), rng.choice("<>")
            number = rng.choice(INTERESTING) % (1 << (8 * width))
            made[at : at + width] = struct.pack(f"{order}{'BHIQ'[width.bit_length() - 1]}", number)
        elif rng.random() < 0.2:
            del made[at:]
    return bytes(made)


def mutate_json(data: bytes, rng: random.Random) -> bytes:
    """Replace, remove or add a value anywhere in a JSON document."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return mutate_bytes(data, rng)
    for _ in range(rng.choice((1, 1, 2))):
        document = _changed(document, rng)
    try:
        return json.dumps(document).encode()
    except RecursionError:  # a deep list in a deep list
        return mutate_bytes(data, rng)


def _changed(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        kind = rng.random()
        if kind < 0.1:
            return {name: item for name, item in value.items() if name != key}
        if kind < 0.15:
            return {**value, rng.choice(("", "x", key + "s")): value[key]}
        return {**value, key: _changed(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        kind = rng.random()
        if kind < 0.15:
            return value[:at] + value[at + 1 :]
        if kind < 0.25:
            return [*value, value[at]]
        return [*value[:at], _changed(value[at], rng), *value[at + 1 :]]
    if rng.random() < 0.03:
        deep: Any = value
        for _ in range(rng.choice((20, 40, 500))):
            deep = [deep]
        return deep
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.5:
        return value + rng.choice((-1, 1, 0.5))
    return rng.choice(VALUES)


def mutate_lines(data: bytes, rng: random.Random) -> bytes:
    """Change one line of a file of JSON lines."""
    lines = data.splitlines() or [b""]
    at = rng.randrange(len(lines))
    lines[at] = mutate_json(lines[at], rng)
    return b"\n".join(lines) + b"\n"


def mutate_safetensors(data: bytes, rng: random.Random) -> bytes:
    """Change the header of a safetensors file, and give its length right."""
    size = int.from_bytes(data[:8], "little")
    if not 2 <= size <= len(data) - 8:
        return mutate_bytes(data, rng)
    header = rng.choice((mutate_json, mutate_bytes))(data[8 : 8 + size], rng)
    return struct.pack("<Q", len(header)) + header + data[8 + size :]


def mutate_gzip(data: bytes, rng: random.Random) -> bytes:
    """Change what a gzip file holds, and give its checksum right."""
    try:
        content = gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        return mutate_bytes(data, rng)
    return gzip.compress(mutate_bytes(content, rng), 1)


def mutate_zip(data: bytes, rng: random.Random) -> bytes:
    """Change, rename or remove a member of a zip archive, and give its checksum right."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(member.filename, archive.read(member)) for member in archive.infolist()]
    except Exception:  # noqa: BLE001  # whatever an earlier change has broken
        return mutate_bytes(data, rng)
    if not members:
        return mutate_bytes(data, rng)
    at = rng.randrange(len(members))
    name, content = members[at]
    kind = rng.random()
    if kind < 0.8:
        change = mutate_json if content[:1] in b"{[" else mutate_bytes
        members[at] = (name, change(content, rng))
    elif kind < 0.9:
        members[at] = (name + rng.choice(("x", "/..", "\u202e")), content)
    else:
        del members[at]
    written = io.BytesIO()
    with zipfile.ZipFile(
        written, "w", rng.choice((zipfile.ZIP_STORED,) * 9 + (zipfile.ZIP_DEFLATED,))
    ) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return written.getvalue()


def mutate_hdf5(data: bytes, rng: random.Random) -> bytes:
    """Change an attribute or a dataset of an HDF5 file; its own checksums are right afterwards."""
    file = io.BytesIO(data)
    try:
        with h5py.File(file, "r+") as root:
            items: list[Any] = [root]
            root.visititems(lambda _name, item: items.append(item))
            item = rng.choice(items)
            attributes = list(item.attrs)
            if attributes and rng.random() < 0.5:
                name = rng.choice(attributes)
                _set_attribute(item, name, item.attrs[name], rng)
            elif isinstance(item, h5py.Dataset):
                _set_dataset(root, item, rng)
            else:
                del root[rng.choice(list(root))]
    except Exception:  # noqa: BLE001  # whatever an earlier change has broken
        return mutate_bytes(data, rng)
    return file.getvalue()


def _set_attribute(item: Any, name: str, value: Any, rng: random.Random) -> None:
    kind = rng.randrange(4)
    if kind == 0:
        del item.attrs[name]
    elif kind == 1 and isinstance(value, bytes | np.bytes_):
        change = mutate_json if bytes(value)[:1] in b"{[" else mutate_bytes
        item.attrs[name] = np.bytes_(change(bytes(value), rng).replace(b"\0", b"0"))
    else:
        item.attrs[name] = rng.choice(
            (0, -1, 2**63 - 1, 1.5, np.bytes_(b"x"), "text", [1, 2], np.uint8(3), np.zeros((2, 2)))
        )


def _set_dataset(root: Any, item: Any, rng: random.Random) -> None:
    name, values = item.name, item[()]
    if rng.random() < 0.6:
        raw = bytearray(np.asarray(values).tobytes())
        raw[rng.randrange(len(raw))] = rng.randrange(256)
        item[...] = np.frombuffer(bytes(raw), np.asarray(values).dtype).reshape(item.shape)
        return
    attributes = dict(item.attrs)
    del root[name]
    kind = rng.randrange(4)
    if kind == 0:
        made = root.create_dataset(
            name, data=np.asarray(values).astype("f8") if item.dtype.kind in "iuf" else [1.5]
        )
    elif kind == 1:
        made = root.create_dataset(name, data=np.asarray(values)[:1])
    elif kind == 2:
        root[name] = h5py.ExternalLink("/etc/passwd", "/x")
        return
    else:
        made = root.create_dataset(name, data=values, chunks=True, compression="gzip")
    for key, value in attributes.items():
        made.attrs[key] = value
