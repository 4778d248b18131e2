"""Progress, notes and tables on a terminal."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from frostline.escapes import escaping, indented, named_errors, underlying, visible
from frostline.pipeline.progress import Advance

_UNBOUNDED = 10_000


class TerminalReporter:
    """Reporter that writes to standard error; progress is shown only on a terminal.

    Args:
        quiet: Whether to show warnings only.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self.console = Console(file=underlying(sys.stderr), highlight=False)

    def note(self, message: str) -> None:
        """Print a note."""
        if not self._quiet:
            self.console.print(_text(message), soft_wrap=True)

    def warn(self, message: str) -> None:
        """Print a warning."""
        self.console.print(_text(f"Warning: {message}", "yellow"), soft_wrap=True)

    @contextmanager
    def task(self, description: str, total: int | None) -> Iterator[Advance]:
        """Show a progress bar, or a spinner if `total` is None, that disappears when the block ends."""
        if self._quiet or not self.console.is_terminal:
            yield lambda _done, _status="", /: None
            return
        columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False)]
        if total is not None:
            columns += [
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}", markup=False),
                TimeRemainingColumn(),
                TextColumn("{task.fields[status]}", markup=False),
            ]
        with (
            Progress(*columns, console=self.console, transient=True) as progress,
            escaping(),  # what others write meanwhile goes through the streams of Rich, which act on colours
        ):
            task = progress.add_task(visible(description), total=total, rate="", status="")

            def advance(done: int, status: str = "", /) -> None:
                progress.advance(task, done)
                speed = progress.tasks[task].speed
                said = visible(status) or progress.tasks[task].fields["status"]
                progress.update(task, rate=f"{speed:,.0f}/s" if speed else "", status=said)

            yield advance


def _text(message: str, style: str = "") -> Text:
    """Return a message of one or more lines for Rich, which writes to the terminal itself."""
    return Text(visible(indented(message), keep="\n\t"), style)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None) -> None:
    """Print a table on standard output; columns in which every cell starts with a digit are right-aligned."""
    table = Table(header_style="bold", box=None, pad_edge=False)
    for column, heading in enumerate(headings):
        numeric = bool(rows) and all(row[column][:1] in "0123456789-" for row in rows)
        table.add_column(Text(visible(heading)), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(text)) for text in row))
    # A pipe or a file has no width limit.
    console = Console(
        file=underlying(sys.stdout), highlight=False, width=None if sys.stdout.isatty() else _UNBOUNDED
    )
    with named_errors(underlying(sys.stdout)):
        if title:
            console.print(_text(title))
        console.print(table)
