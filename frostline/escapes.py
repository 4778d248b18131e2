r"""Escapes of characters that a terminal acts on, and the streams that write them."""

import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

UNDECODABLE = "".join(map(chr, range(0xDC80, 0xDD00)))
"""Stand-ins of Python for the bytes of a file name that are not UTF-8."""

# The C0 and C1 control characters and DEL, Unicode's line separators and bidirectional controls, and surrogates.
_ACTIVE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_FURTHER_LINE = re.compile(r"\n(?! {2}|$)")


def visible(text: str, keep: str = "") -> str:
    r"""Return a text in which the characters that a terminal acts on are escapes such as ``\x1b``.

    These are control characters, line separators, controls of the writing direction, and surrogates. A byte of a file
    name that is not UTF-8 is shown as ``\xe9``.

    Args:
        text: The text, such as a name that someone else chose.
        keep: Characters to leave as they are.
    """
    return _ACTIVE.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), text)


def indented(message: str) -> str:
    """Return a message whose further lines begin with two blanks.

    A name with a line feed in a message can then not look like a message of its own.
    """
    return _FURTHER_LINE.sub("\n  ", message)


def _escape(char: str) -> str:
    if char in UNDECODABLE:
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode()


class EscapingStream(io.TextIOBase):
    """Text stream that writes the characters of `visible` as escapes, and all others to another stream.

    Line feeds and tabs are kept. So is a carriage return that begins a text, with which the progress bars of other
    libraries return to the begin of their line. Bytes of file names that are not UTF-8 are escaped on a terminal only,
    because a script may read them from a pipe.

    Args:
        stream: Stream that receives the text.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._kept = "\n\t" if stream.isatty() else "\n\t" + UNDECODABLE

    def write(self, text: str) -> int:
        """Write a text with escapes."""
        returns = text[:1] == "\r"
        with named_errors(self.stream):
            self.stream.write(text[:returns] + visible(text[returns:], self._kept))
        return len(text)

    def flush(self) -> None:
        """Flush the other stream."""
        with named_errors(self.stream):
            self.stream.flush()

    def isatty(self) -> bool:
        """Return whether the other stream is a terminal."""
        return self.stream.isatty()

    def fileno(self) -> int:
        """Return the descriptor of the other stream."""
        return self.stream.fileno()

    def writable(self) -> bool:
        """Return True."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Encoding of the other stream."""
        return self.stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """Error handler of the other stream."""
        return self.stream.errors


@contextmanager
def named_errors(stream: TextIO) -> Iterator[None]:
    """Add the name of a stream to an error of writing to it, e.g. because its disk is full."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        names = {"<stdout>": "standard output", "<stderr>": "standard error"}
        name = str(getattr(stream, "name", "the output"))
        raise OSError(error.errno, error.strerror, names.get(name, name)) from error


def underlying(stream: TextIO) -> TextIO:
    """Return the stream that receives the text of an `EscapingStream`; any other stream as it is."""
    return stream.stream if isinstance(stream, EscapingStream) else stream


@contextmanager
def escaping(*, after_errors: bool = False) -> Iterator[None]:
    """Escape what is written to standard output and standard error.

    Args:
        after_errors: Whether to go on after an error that ends the block, whose traceback Python then writes.
    """
    before = sys.stdout, sys.stderr
    after = tuple(
        each if isinstance(each, EscapingStream | None) else EscapingStream(each) for each in before
    )
    sys.stdout, sys.stderr = after
    going_on = False
    try:
        yield
    except Exception:
        going_on = after_errors
        raise
    finally:  # except where someone else has set another stream since
        if sys.stdout is after[0] and not going_on:
            sys.stdout = before[0]
        if sys.stderr is after[1] and not going_on:
            sys.stderr = before[1]
