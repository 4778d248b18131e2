"""Memory of the machine, and parsing of memory sizes."""

import re

from frostline.system.resources import total_memory

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def parse_memory(text: str) -> int:
    """Return the bytes of a memory size such as ``2GB``, ``1.5 GiB`` or ``500M``.

    Raises:
        ValueError: The text is not a memory size, or less than one byte.
    """
    found = re.fullmatch(r"([0-9.]+)\s*([kmgt]?)(i?)b?", text.strip().lower())
    try:
        number, unit, binary = found.groups() if found else ("", "", "")
        amount = int(float(number) * (_BINARY if binary else _UNITS)[unit])
    except (ValueError, KeyError):
        amount = 0
    if amount < 1:
        raise ValueError(f"got {text!r}, expected an amount of memory such as 2GB, 1.5GiB or 500MB")
    return amount


def half_of_memory() -> int | None:
    """Return half of the memory of the machine or container in bytes; None if it is unknown."""
    whole = total_memory()
    return None if whole is None else whole // 2
