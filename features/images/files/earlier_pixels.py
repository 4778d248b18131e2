"""Files that earlier versions of Frostline may have decoded to other pixels.

A cache keeps features by the bytes of a file, and no name or number in it tells how the bytes were read. So features of
these files are computed again when an image set is read anew.
"""

from typing import Final

from frostline.features.images.files.damage import ZEROS
from frostline.features.images.files.depth import may_be_ambiguous

_NEVER_FILLED: Final = (b"\x89PNG", b"GIF8")  # checksums and lengths told their damage before


def may_differ_from_earlier(data: bytes) -> bool:
    """Return whether an earlier version may have decoded a file's bytes to other pixels.

    It may have if the tags of a TIFF or PNG tell that zero is white or that values have fewer bits, and if a file holds
    so many zeros that a part of it may be lost.
    """
    return may_be_ambiguous(data) or (not data.startswith(_NEVER_FILLED) and data.find(ZEROS) >= 0)
