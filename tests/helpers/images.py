"""Small image files, in folders and as bytes."""

import shutil
import struct
import zlib
from pathlib import Path

from frostline.features.images.decoding import DecodeError, upright_rgb
from frostline.testing.images import photo


def write_image(path, *, seed=0, size=(12, 10)):
    """Write a photo in the format of the path's extension, making the folders it lies in."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    photo(*size, seed=seed).save(path)
    return path


def write_folder(root, names):
    """Write a different photo under each of the relative names; returns the root."""
    for seed, name in enumerate(names):
        write_image(root / name, seed=seed)
    return root


def is_refused(data):
    """Return whether decoding the bytes of an image file raises `DecodeError`."""
    try:
        upright_rgb(data)
    except DecodeError:
        return True
    return False


def tiff(samples, tags, order="<"):
    """Bytes of an uncompressed TIFF of one strip, with any tags: a number, or a tuple of numbers, by the tag's number.

    Args:
        samples: (H, W) or (H, W, C) array, stored as it is.
        tags: Tags besides those of size and strip.
        order: ``<`` for little-endian, ``>`` for big-endian.
    """
    data = samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    height, width, *channels = samples.shape
    fields = {
        256: width,
        257: height,
        258: (8 * samples.dtype.itemsize,) * (channels[0] if channels else 1),
        259: 1,
        273: 8,
        277: channels[0] if channels else 1,
        278: height,
        279: len(data),
        **tags,
    }
    fields = {tag: value if isinstance(value, tuple) else (value,) for tag, value in fields.items()}
    start = 8 + len(data) + len(data) % 2
    behind = start + 2 + 12 * len(fields) + 4
    entries, values = b"", b""
    for tag, numbers in sorted(fields.items()):
        packed = struct.pack(f"{order}{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            packed, values = struct.pack(f"{order}I", behind + len(values)), values + packed
        entries += struct.pack(f"{order}HHI", tag, 4, len(numbers)) + packed
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", start)
    body = header + data + b"\0" * (start - 8 - len(data))
    return body + struct.pack(f"{order}H", len(fields)) + entries + bytes(4) + values


def png_chunks(data):
    """Pairs of kind and content of the chunks of a PNG."""
    position = 8
    while position < len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        yield data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        position += 12 + length


def png_of(chunks):
    """Bytes of a PNG of the given chunks, each a kind and its content, and optionally another checksum."""
    made = [b"\x89PNG\r\n\x1a\n"]
    for kind, content, *checksum in chunks:
        right = struct.pack(">I", zlib.crc32(kind + content))
        made.append(struct.pack(">I", len(content)) + kind + content + (checksum[0] if checksum else right))
    return b"".join(made)


def copy_digits(whole, folder, *, classes, each, names=()):
    """Copy the first images of the first classes, under their names or others; returns the folder."""
    groups = sorted(whole.iterdir())[:classes]
    for name, group in zip(names or [group.name for group in groups], groups, strict=True):
        (folder / name).mkdir(parents=True)
        for path in sorted(group.iterdir())[:each]:
            shutil.copy(path, folder / name)
    return folder
