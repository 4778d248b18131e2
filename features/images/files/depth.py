"""Grey of more than 8 bits: which value of a file is white, and files that don't say it.

A grey value means a brightness only if the file says which value is black and which is white. PNG, PGM and JPEG 2000
always say it. TIFF says it by tags, and some of its kinds have no white at all: floats, signed numbers and 32-bit
integers. Those are refused, because a guess would be a wrong picture in silence.
"""

import contextlib
import io
import struct
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from frostline.features.images.files.silence import silence

FULL_BITS: Final = 16
_SEEN_BITS = 8
_DARK = 1 << (FULL_BITS - 4)  # 1/16 of the range: the first value that 12 bits can't hold

_WHITE_IS_ZERO, _BLACK_IS_ZERO = 0, 1  # values of the tag PhotometricInterpretation
_BY_PALETTE = 3  # another of these values
_FAX = {2, 3, 4}  # compressions in which white is zero
_UNSIGNED = 1  # value of the tag SampleFormat
_KINDS = {2: "signed integer", 3: "floating point", 5: "complex integer", 6: "complex floating point"}

_TIFF = {b"II*\0", b"MM\0*"}
_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES = 258, 259, 262, 277
_LARGEST, _PALETTE, _SAMPLE_FORMAT = 281, 320, 339
_NEEDED = {"width": {256}, "height": {257}, "position of the pixels": {273, 324}}  # without a default
_READ_PHOTOMETRICS = {0, 1, 2, 3, 5, 6, 8}
_ALPHA = {"A", "a", "X"}  # bands that are no colours


def obstacle(image: Image.Image) -> str:
    """Return why the values of an opened image have no certain brightness; empty if they have one."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return ""
    tags = image.tag_v2
    formats, bits = _all(tags, _SAMPLE_FORMAT, _UNSIGNED), _all(tags, _BITS, 1)
    if set(formats) != {_UNSIGNED} or max(bits) > FULL_BITS:
        return _without_white(formats, bits)
    if (
        image.mode in {"1", "L", "I;16"}
        and _PHOTOMETRIC not in tags
        and tags.get(_COMPRESSION, 1) not in _FAX
    ):
        return (
            "the TIFF does not say whether zero is black or white (it has no tag PhotometricInterpretation);"
            " save the image again with another program"
        )
    largest, deepest = max(_all(tags, _LARGEST, 0)), max(bits)
    if deepest > _SEEN_BITS and 0 < largest < 1 << (deepest - 4) and not _told_by_largest(tags):
        return (
            f"{deepest}-bit values of which {largest} is the largest (tag MaxSampleValue), which may be white or nearly"
            " black; scale them and save the image with 8 bits, or with 16 bits and without this tag"
        )
    if (
        _is_colour(image)
        and max(bits) == FULL_BITS
        and (told := _told_by_largest(tags)) not in {0, FULL_BITS}
    ):
        return (
            f"16-bit colour whose values have {told} bits (tag MaxSampleValue); multiply them to the full 16 bits,"
            " or save the image with 8 bits"
        )
    return ""


def unreadable_tiff(data: bytes) -> str:
    """Return why no plugin of Pillow opens the bytes, if they are a TIFF of a known kind; else an empty string."""
    with contextlib.suppress(
        Exception
    ):  # a damaged file can raise nearly anything from within Pillow's plugin
        return _described(_tags(data))
    return ""


def may_be_ambiguous(data: bytes) -> bool:
    """Return whether tags of a file say more about its values than that it is 8-bit, or 16-bit with zero as black."""
    if data.startswith(b"\x89PNG"):
        return data[24:25] == bytes([FULL_BITS]) and _significant_bits(data) > 0
    if data[:4] not in _TIFF:
        return False
    with silence(), contextlib.suppress(Exception):  # as above
        tags = _tags(data)
        formats, bits = _all(tags, _SAMPLE_FORMAT, _UNSIGNED), max(_all(tags, _BITS, 1))
        is_certain = set(formats) == {_UNSIGNED} and _PHOTOMETRIC in tags
        largest = max(_all(tags, _LARGEST, 0))
        is_plain = bits <= _SEEN_BITS or (
            bits == FULL_BITS
            and tags[_PHOTOMETRIC] != _WHITE_IS_ZERO
            and not _told_by_largest(tags)
            and (largest == 0 or largest >= _DARK)
        )
        return not (is_certain and is_plain) or _palette_of_8_bits(tags) is not None
    return True


def _tags(data: bytes) -> Any:
    """Return the tags of the first picture of a TIFF."""
    tags = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
    stream = io.BytesIO(data)
    stream.seek(tags.next)
    tags.load(stream)
    return tags


def _described(tags: Any) -> str:
    formats, bits = _all(tags, _SAMPLE_FORMAT, _UNSIGNED), _all(tags, _BITS, 1)
    if set(formats) != {_UNSIGNED} or max(bits) > FULL_BITS:
        return _without_white(formats, bits)
    if missing := [name for name, either in _NEEDED.items() if not any(tag in tags for tag in either)]:
        return f"damaged image: the TIFF does not say its {' or its '.join(missing)}"
    samples, photometric = int(tags.get(_SAMPLES, 1)), tags.get(_PHOTOMETRIC)
    kind = f"{samples} channel{'s' * (samples != 1)} of {max(bits)} bit{'s' * (max(bits) != 1)}"
    details = {
        ", white is zero": photometric == _WHITE_IS_ZERO,
        f", PhotometricInterpretation {photometric}": photometric not in {None, *_READ_PHOTOMETRICS},
        ", big-endian": tags.prefix == b"MM",
    }
    kind += "".join(detail for detail, is_so in details.items() if is_so)
    return (
        f"a kind of TIFF that can't be read: {kind}; save the image as PNG, or as TIFF with 8 or 16 bits in which zero"
        " is black"
    )


def _without_white(formats: tuple[int, ...], bits: tuple[int, ...]) -> str:
    kind = _KINDS.get(max(formats), "integer")
    return (
        f"pixels of {max(bits)}-bit {kind} numbers have no defined white; scale them and save the image with 8 or 16"
        " bits per channel"
    )


def _all(tags: Any, tag: int, default: int) -> tuple[int, ...]:
    value = tags.get(tag, default)
    return tuple(map(int, value)) if isinstance(value, tuple) else (int(value),)


def _is_colour(image: Image.Image) -> bool:
    return image.mode not in {"1", "L", "LA", "La", "I;16", "I;16B", "P", "PA"}


def is_deep(image: Image.Image) -> bool:
    """Return whether an image holds one channel of more than 8 bits with a defined white."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in {"PNG", "PPM"})


def to_8_bits(image: Image.Image, data: bytes) -> tuple[Image.Image, str]:
    """Scale grey of more than 8 bits to 8 bits, as Pillow reads 16-bit colour: the low bits are dropped.

    Args:
        image: Loaded image, for which `is_deep` is true.
        data: Bytes of its file.

    Returns:
        The image in mode ``L``, and a remark if its values may have fewer bits than its file says; else an empty
        string.

    Raises:
        ValueError: The values exceed the largest one that the file declares.
    """
    values = np.asarray(image)
    bits = told_bits(image, data, values)
    largest = int(values.max())
    if largest >= 1 << bits:
        raise ValueError(
            f"values up to {largest}, while the file says that they have {bits} bits; save the image with 8 or 16 bits"
        )
    is_inverted = is_white_zero(image)
    remark = _remark(is_inverted=is_inverted) if bits == FULL_BITS and 0 < largest < _DARK else ""
    grey = (values >> (bits - _SEEN_BITS)).astype(np.uint8)
    return Image.fromarray(np.invert(grey) if is_inverted else grey), remark


def _remark(*, is_inverted: bool) -> str:
    """Return the remark about an image whose file does not say that its values have fewer bits, although they may."""
    low, high = ("white", "black") if is_inverted else ("black", "white")
    return (
        f"all of its 16-bit values are below 1/16 of {high}, so it is nearly {low}. If its values have 12 bits or"
        " fewer, multiply them to the full 16 bits, or convert the image to 8 bits"
    )


def is_white_zero(image: Image.Image) -> bool:
    """Return whether zero is white in the values that Pillow gives, which inverts at most 8 bits."""
    return (
        isinstance(image, TiffImagePlugin.TiffImageFile)
        and is_deep(image)
        and image.tag_v2.get(_PHOTOMETRIC, _BLACK_IS_ZERO) == _WHITE_IS_ZERO
    )


def told_bits(image: Image.Image, data: bytes, values: NDArray[Any]) -> int:
    """Return the bits of the values, as the file says: 16 unless its own tags say less.

    Args:
        image: Image for which `is_deep` is true.
        data: Bytes of its file.
        values: Values of the image.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        stored = _all(image.tag_v2, _BITS, FULL_BITS)[0]
        return min(stored, _told_by_largest(image.tag_v2) or FULL_BITS)
    if image.format == "PNG" and (bits := _significant_bits(data)) and not _is_scaled(values, bits):
        return bits
    return FULL_BITS


def _told_by_largest(tags: Any) -> int:
    """Return the bits that TIFF's MaxSampleValue tells, 8 or more; 0 for a value that is no end of a range."""
    largest = max(_all(tags, _LARGEST, 0))
    bits = largest.bit_length()
    return bits if bits >= _SEEN_BITS and largest == (1 << bits) - 1 else 0


def _significant_bits(data: bytes) -> int:
    """Return what the chunk sBIT of a grey PNG says, 8 to 15; else 0."""
    position = 8
    while (kind := data[position + 4 : position + 8]) not in {b"IDAT", b""}:
        if kind == b"sBIT":
            bits = data[position + 8]
            return bits if _SEEN_BITS <= bits < FULL_BITS else 0
        position += 12 + struct.unpack(">I", data[position : position + 4])[0]
    return 0


def _is_scaled(values: NDArray[Any], bits: int) -> bool:
    """Return whether values of fewer bits were scaled to 16, as the standard of PNG asks: by repeating the high bits."""
    low = values & ((1 << (FULL_BITS - bits)) - 1)
    return bool(values.max() >> bits) or bool((low == values >> bits).all())


def colour_remark(image: Image.Image, data: bytes) -> str:
    """Return the remark about a loaded image of 16 bits per channel whose values are very low; else an empty string.

    Such an image holds the 8 high bits, so values of 8 bits are black.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        deep = max(_all(image.tag_v2, _BITS, 1)) == FULL_BITS
    else:
        deep = image.format == "PNG" and data[24:25] == bytes([FULL_BITS])
    if not deep:
        return ""
    colours = [index for index, band in enumerate(image.getbands()) if band not in _ALPHA]
    values = np.asarray(image).reshape(image.height, image.width, -1)
    if int(values[..., colours].max()) >= _DARK >> _SEEN_BITS:
        return ""
    return _remark(is_inverted=image.mode == "CMYK")


def with_scaled_palette(image: Image.Image) -> None:
    """Scale the palette of a TIFF in place, if its 16-bit numbers hold 8 bits, as early programs wrote them.

    libtiff knows such a palette in the same way: all of its numbers are below 256.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.mode in {"P", "PA"}:
        palette = _palette_of_8_bits(image.tag_v2)
        if palette:
            image.putpalette(palette, "RGB;L")


def _palette_of_8_bits(tags: Any) -> bytes | None:
    """Return the reds, greens and blues of a palette that holds 8-bit values; None for any other."""
    numbers = tags.get(_PALETTE) if tags.get(_PHOTOMETRIC) == _BY_PALETTE else None
    return bytes(numbers) if numbers and 0 < max(numbers) < 1 << _SEEN_BITS else None
