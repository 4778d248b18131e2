"""The group of all commands, which imports them on demand and turns errors into exit codes."""

import codecs
import importlib
import io
import sys
from collections import UserDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from frostline.commands.interface.system_errors import system_message
from frostline.errors import FrostlineError, OptionError
from frostline.escapes import escaping, indented
from frostline.interrupts import INTERRUPTS, MESSAGE

EXIT_CODES: Mapping[type[BaseException], int] = {
    OptionError: 2,
    FrostlineError: 1,
    OSError: 1,
    KeyboardInterrupt: 130,
}
"""Exit code of each class of expected errors; the first that fits counts.

The errors of click carry their own codes: 2 for a usage error, and 1 for a `click.ClickException`, which a command raises
for a bad outcome such as a damaged cache. Any other error is a bug and shows its traceback.
"""

_ANY_NAME = "frostline-any-name"  # name of an error handler
_LONGEST = 10_000  # characters of a message


class LazyCommands(UserDict[str, Any]):
    """Commands by name, each imported when it is looked up.

    Constructed from the module in `frostline.commands` and the attribute of each, such as
    ``{"train-head": "train:train_head"}``. A command that is added to it is returned as it is.
    """

    def __getitem__(self, name: str) -> click.Command:
        found = super().__getitem__(name)
        if isinstance(found, click.Command):
            return found
        module, _, attribute = found.partition(":")
        command: click.Command = getattr(importlib.import_module(f"frostline.commands.{module}"), attribute)
        return command


class CommandGroup(click.Group):
    """A group whose commands print through `frostline.escapes` and end with the exit codes of `EXIT_CODES`."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command on streams that show control characters as escapes."""
        _write_any_name()
        with escaping(after_errors=True):
            try:
                return super().main(*args, color=True, **extra)  # click drops colours from names otherwise
            except OSError as error:  # of writing the help
                click.ClickException(_message(error)).show()
                sys.exit(EXIT_CODES[OSError])

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Parse the arguments of a command."""
        with _indented_errors():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, and turn an expected error into a message and an exit code."""
        try:
            INTERRUPTS.in_command = True
            with _indented_errors():
                return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # click exits quietly on a closed pipe
        except (Exception, KeyboardInterrupt) as error:
            if INTERRUPTS.received:  # some libraries turn the exception of a signal into an error of theirs
                INTERRUPTS.tell()
                ctx.exit(INTERRUPTS.exit_code)
            if isinstance(error, KeyboardInterrupt):
                click.echo(MESSAGE, err=True)
                ctx.exit(EXIT_CODES[KeyboardInterrupt])
            for kind, code in EXIT_CODES.items():
                if isinstance(error, kind):
                    click.ClickException(_message(error)).show()
                    ctx.exit(code)
            raise
        finally:
            INTERRUPTS.in_command = False


@contextmanager
def _indented_errors() -> Iterator[None]:
    try:
        yield
    except click.ClickException as error:
        error.message = indented(error.message)  # type: ignore[misc]
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


def _message(error: BaseException) -> str:
    text = "\n".join([system_message(error), *getattr(error, "__notes__", ())])
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"
    return indented(text)
