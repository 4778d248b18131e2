"""Standard output and standard error that show control characters as escapes, whoever writes to them."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from frostline.escapes import UNDECODABLE, visible


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
        self.stream.write(text[:returns] + visible(text[returns:], self._kept))
        return len(text)

    def flush(self) -> None:
        """Flush the other stream."""
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


def underlying(stream: TextIO) -> TextIO:
    """Return the stream that receives the text of an `EscapingStream`; any other stream as it is."""
    return stream.stream if isinstance(stream, EscapingStream) else stream


@contextmanager
def escaping() -> Iterator[None]:
    """Escape what is written to standard output and standard error."""
    before = sys.stdout, sys.stderr
    after = tuple(
        each if isinstance(each, EscapingStream | None) else EscapingStream(each) for each in before
    )
    sys.stdout, sys.stderr = after
    try:
        yield
    finally:  # except where someone else has set another stream since
        if sys.stdout is after[0]:
            sys.stdout = before[0]
        if sys.stderr is after[1]:
            sys.stderr = before[1]
