"""The group of all commands, which imports them on demand and turns errors into exit codes."""

import codecs
import importlib
import io
import signal
import sys
from collections import UserDict
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, NoReturn

import click

from frostline.commands.streams import escaping
from frostline.errors import FrostlineError, OptionError

EXIT_CODES: Mapping[type[BaseException], int] = {
    OptionError: 2,
    FrostlineError: 1,
    OSError: 1,
    KeyboardInterrupt: 1,
}
"""Exit code of each class of expected errors; the first that fits counts.

The errors of click carry their own codes: 2 for a usage error, and 1 for a `click.ClickException`, which a command raises
for a bad outcome such as a damaged cache. Any other error is a bug and shows its traceback.
"""

_ANY_NAME = "frostline-any-name"  # name of an error handler


class LazyCommands(UserDict[str, Any]):
    """Commands by name, each imported when it is looked up.

    Constructed from the module in `frostline.commands` and the attribute of each, such as
    ``{"train-head": "train:train_head"}``.
    """

    def __getitem__(self, name: str) -> click.Command:
        module, _, attribute = super().__getitem__(name).partition(":")
        command: click.Command = getattr(importlib.import_module(f"frostline.commands.{module}"), attribute)
        return command


class CommandGroup(click.Group):
    """A group whose commands print through `frostline.commands.streams` and end with the exit codes of `EXIT_CODES`."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command on streams that show control characters as escapes."""
        _write_any_name()
        with ExitStack() as streams:
            streams.enter_context(escaping())
            try:
                return super().main(*args, color=True, **extra)  # click drops colours from names otherwise
            except Exception:
                streams.pop_all()  # Python writes the traceback, which quotes names as well
                raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, and turn an expected error into a message and an exit code."""
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # click exits quietly on a closed pipe
        except (Exception, KeyboardInterrupt) as error:
            for kind, code in EXIT_CODES.items():
                if isinstance(error, kind):
                    click.ClickException(_message(error)).show()
                    ctx.exit(code)
            raise


def _write_any_name() -> None:
    """Make standard output take every name: bytes of file names as they are, characters it lacks as escapes."""
    codecs.register_error(_ANY_NAME, _replacement)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=_ANY_NAME)


def _replacement(error: UnicodeError) -> tuple[str | bytes, int]:
    try:
        return codecs.lookup_error(sys.getfilesystemencodeerrors())(error)
    except UnicodeEncodeError:  # a character, such as an emoji on a terminal of one byte per character
        return codecs.lookup_error("backslashreplace")(error)


def _interrupt(_signal: int, _frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def _message(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted. Committed results are kept; run the same command to resume."
    return "\n".join([str(error), *getattr(error, "__notes__", ())])
