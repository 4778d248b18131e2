r"""Escapes of characters that a terminal acts on, or that change the order in which it shows a line."""

import re

UNDECODABLE = "".join(map(chr, range(0xDC80, 0xDD00)))
"""Stand-ins of Python for the bytes of a file name that are not UTF-8."""

# The C0 and C1 control characters and DEL, Unicode's line separators and bidirectional controls, and surrogates.
_ACTIVE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str, keep: str = "") -> str:
    r"""Return a text in which the characters that a terminal acts on are escapes such as ``\x1b``.

    These are control characters, line separators, controls of the writing direction, and surrogates. A byte of a file
    name that is not UTF-8 is shown as ``\xe9``.

    Args:
        text: The text, such as a name that someone else chose.
        keep: Characters to leave as they are.
    """
    return _ACTIVE.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), text)


def _escape(char: str) -> str:
    if char in UNDECODABLE:
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode()
