"""Line numbers in a TOML file, for error messages; the TOML parser does not report them."""

import re
from dataclasses import dataclass
from pathlib import Path

from frostline.pipeline.errors import StudyError

_HEADER = re.compile(r"^\s*\[{1,2}\s*([\w.\"'-]+)\s*\]{1,2}")


class Lines:
    """Lookup of line numbers in a TOML file.

    Args:
        file: Path of the file, for messages.
        text: Contents of the file.
    """

    def __init__(self, file: Path, text: str) -> None:
        self._file = file
        self._lines = text.splitlines()

    def error(self, message: str, table: str = "", index: int = 0, *words: str) -> StudyError:
        """Return an error that names a line: the first line of a table with one of `words`, else its header."""
        line = self._line(table, index, words)
        place = f"{self._file}, line {line}" if line else str(self._file)
        return StudyError(f"{place}: {message}")

    def _line(self, table: str, index: int, words: tuple[str, ...]) -> int | None:
        """Return the number of the line, from 1; None if there is no such table."""
        block = self._block(table, index)
        for word in words:
            found = re.compile(rf"(?<![\w-]){re.escape(word)}(?![\w-])")
            for number in block:
                if found.search(self._lines[number]):
                    return number + 1
        return block[0] + 1 if table and block else None

    def _block(self, table: str, index: int) -> range:
        """Return the lines of the `index`-th table of a name with its subtables; all lines if there is none."""
        headers = [
            (number, found[1]) for number, line in enumerate(self._lines) if (found := _HEADER.match(line))
        ]
        starts = [number for number, name in headers if name == table]
        if index >= len(starts):
            return range(len(self._lines))
        first = starts[index]
        stop = next(
            (number for number, name in headers if number > first and not name.startswith(f"{table}.")),
            len(self._lines),
        )
        return range(first, stop)


@dataclass(frozen=True)
class Place:
    """Place of a table in a file.

    Attributes:
        lines: Lines of the file.
        table: Name of the table.
        index: Index of the table among those of its name.
    """

    lines: Lines
    table: str
    index: int = 0

    def error(self, message: str, *words: str) -> StudyError:
        """Return an error that names the first line of the table with one of `words`, else its header."""
        return self.lines.error(message, self.table, self.index, *words)
