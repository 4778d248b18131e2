"""Files that earlier versions of Frostline may have decoded to other pixels.

A cache keeps features by the bytes of a file, and no name or number in it tells how the bytes were read. So features of
these files are computed again when an image set is read anew.
"""

from frostline.features.images.files.damage import holds_zeros
from frostline.features.images.files.depth import may_be_ambiguous
from frostline.features.images.files.png import PNG, png_damage


def may_differ_from_earlier(data: bytes) -> bool:
    """Return whether an earlier version may have decoded a file's bytes to other pixels.

    It may have if the tags of a TIFF or PNG tell that zero is white or that values have fewer bits, if the pixels of a
    PNG don't have their checksums, and if another file holds so many zeros that a part of it may be lost.
    """
    if data.startswith(PNG):
        return may_be_ambiguous(data) or bool(png_damage(data))
    return may_be_ambiguous(data) or holds_zeros(data)
