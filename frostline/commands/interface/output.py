"""Print the result of a command: as one JSON document, or as lines and tables."""

import dataclasses
import functools
import json
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

import click

from frostline.csv_cells import CsvWriter
from frostline.escapes import UNDECODABLE, named_errors, underlying, visible

if TYPE_CHECKING:
    from frostline.pipeline.progress import Reporter


@dataclass(frozen=True)
class Table:
    """A table to print.

    Attributes:
        headings: One heading per column.
        rows: The cells of each row.
        title: Line above the table.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str | None = None


@dataclass(frozen=True)
class CsvTable:
    """A table to print as CSV, with all bytes of its texts on anything but a terminal.

    Attributes:
        columns: Names of the columns.
        rows: The values of each row.
    """

    columns: Sequence[str]
    rows: Iterable[Sequence[Any]]


Block = str | Table | CsvTable
"""A line, or a table."""
Text = Iterator[Block]


@dataclass(frozen=True)
class Output:
    """Standard output and standard error of a command.

    Attributes:
        style: Output format: ``json``, or a format that the command renders itself.
        quiet: Whether to print no progress and no notes on standard error; warnings are printed.
    """

    style: str = "text"
    quiet: bool = False

    @functools.cached_property
    def report(self) -> "Reporter":
        """Receiver of progress, notes and warnings."""
        from frostline.commands.interface.terminal import TerminalReporter

        return TerminalReporter(quiet=self.quiet)

    def show(self, result: Any, text: Iterable[Block]) -> None:
        """Print a result on standard output.

        Args:
            result: The result, printed as a JSON document if the style is ``json``.
            text: The result as lines and tables, printed in any other style.
        """
        if self.style == "json":
            document = json.dumps(plain(result), indent=2, allow_nan=False)
            click.echo(
                document.replace("\x7f", "\\u007f")
            )  # the one control character that JSON does not escape
            return
        for block in text:
            if isinstance(block, Table):
                from frostline.commands.interface.terminal import print_table

                print_table(block.headings, block.rows, title=block.title)
            elif isinstance(block, CsvTable):
                _print_csv(block)
            else:
                # The stream escapes the rest on a terminal, which click would drop.
                click.echo(visible(block, keep=UNDECODABLE), color=True)


def _print_csv(table: CsvTable) -> None:
    """Print CSV on standard output.

    A terminal gets escapes in place of control characters, and a file gets no text that is a formula to a spreadsheet.
    A program that reads from a pipe gets the texts as they are.
    """
    stream = sys.stdout if sys.stdout.isatty() else underlying(sys.stdout)
    with named_errors(stream):
        CsvWriter(stream, table.columns, for_spreadsheets=_is_file(stream)).write_all(table.rows)
        stream.flush()


def _is_file(stream: TextIO) -> bool:
    """Return whether a stream writes to a file of a file system."""
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except OSError:  # a stream in memory, too
        return False


def plain(value: Any) -> Any:
    """Convert a result to plain values that JSON can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float) and value != value:  # noqa: PLR0124  # JSON has no NaN
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def number(value: Any) -> str:
    """Format a float with four significant digits, any other value with `str`."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def listed(counts: Mapping[str, int]) -> str:
    """Format counts as ``60 train, 20 val``."""
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def named(values: Mapping[str, Any], mark: str = " ") -> str:
    """Format named values as ``accuracy 0.93, log_loss 0.2``."""
    return ", ".join(f"{name}{mark}{number(value)}" for name, value in values.items())
