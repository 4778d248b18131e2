"""How much memory there is, and amounts of it as a user writes them."""

import re

from frostline.features.system.machine import total_memory

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def parse_memory(text: str) -> int:
    """Bytes of an amount such as ``2GB``, ``1.5 GiB`` or ``500M``.

    Raises:
        ValueError: It is no such amount, or nothing.
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
    """Bytes: half of what the machine, or the container around this process, has. None where that can't be told."""
    whole = total_memory()
    return None if whole is None else whole // 2
