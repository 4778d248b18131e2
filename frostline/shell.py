"""Commands that messages suggest, quoted for the shell of the operating system."""

import shlex
import subprocess
import sys
from pathlib import PurePath

from frostline.escapes import UNDECODABLE, visible

_QUOTED = str.maketrans({"\\": r"\\", "'": r"\'"})


def shell_command(*words: str | PurePath) -> str:
    r"""Return words as one line of a shell: of POSIX, or of Windows there.

    A relative `Path` that begins with ``-`` is written as ``./-name``, so that no command takes it for an option. A
    word with control characters or bytes that are not UTF-8 is written as ``$'\x1b'``, which bash, zsh and ksh read.

    Args:
        words: The command and its arguments. Paths are passed as `Path`.
    """
    texts = [as_argument(word) if isinstance(word, PurePath) else word for word in words]
    if sys.platform == "win32":
        return visible(subprocess.list2cmdline(texts))  # which has no such words
    return " ".join(map(_quoted, texts))


def as_argument(path: str | PurePath) -> str:
    """Return a path as a word that no command takes for an option."""
    text = str(path)
    return f"./{text}" if text.startswith("-") else text


def _quoted(text: str) -> str:
    if visible(text) == text:
        return shlex.quote(text)
    return f"$'{_escaped(text)}'"


def _escaped(text: str) -> str:
    r"""Return a text between ``$'`` and ``'``: each byte of an active character is an escape of three octal digits."""
    return "".join(
        char.translate(_QUOTED)
        if visible(char) == char
        else "".join(
            f"\\{byte:03o}"
            for byte in char.encode("utf-8", "surrogateescape" if char in UNDECODABLE else "surrogatepass")
        )
        for char in text
    )
