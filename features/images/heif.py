"""HEIF photos, as phones write them: read by Pillow where the package pillow-heif is installed."""

from functools import cache
from importlib.util import find_spec
from typing import Final

HEIF_EXTENSIONS: Final = frozenset({".heic", ".heif", ".hif"})
"""File name extensions of HEIF photos, in lower case."""

HEIF_REMEDY: Final = "pip install 'frostline[heif]'"
"""Command that installs what reads HEIF photos."""

_BRANDS = {b"heic", b"heim", b"heis", b"heix", b"hevc", b"hevx", b"mif1", b"msf1"}


@cache
def reads_heif() -> bool:
    """Return whether the package pillow-heif is installed."""
    return find_spec("pillow_heif") is not None


def register_heif() -> None:
    """Make Pillow read HEIF photos if the package pillow-heif is installed."""
    if reads_heif():
        import pillow_heif

        pillow_heif.register_heif_opener()


def is_heif(data: bytes) -> bool:
    """Return whether bytes begin as a HEIF photo does, whatever the file is called."""
    return data[4:8] == b"ftyp" and data[8:12] in _BRANDS
