"""Options and arguments that several commands share."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from frostline.commands.interface.output import Output
from frostline.options import Option, Options

Command = Callable[..., Any]
Decorator = Callable[[Command], Command]


class NamedPath(click.Path):
    """A path, which is not empty: an unset variable of a shell is no path."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        if not str(value):
            self.fail("expected a path, got an empty text", param, ctx)
        return super().convert(value, param, ctx)


PATH = NamedPath(path_type=Path)


class DataPath(NamedPath):
    """A path, or a URL, which stays a text: a path would lose one of its slashes."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path or the URL."""
        from frostline.features.sources.remote.urls import is_url

        return value if is_url(value) else super().convert(value, param, ctx)


DATA = DataPath(path_type=Path)


def example(*lines: str) -> str:
    """Format the epilog of a command's help: an example of its use."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


def options_of(options: type[Options], *, into: str = "", but: Sequence[str] = ()) -> Decorator:
    """Add the options that a dataclass declares.

    Args:
        options: The dataclass.
        into: Name of the argument of the command that gets an instance; by default the command gets each option
            that was declared as an argument of its own.
        but: Names of declared options to leave out.
    """
    declared = [each for each in options.declared() if each.name not in but]
    added = several(*map(_declared_option, declared))

    def decorate(command: Command) -> Command:
        @added
        @functools.wraps(command)
        def wrapped(**given: Any) -> Any:
            values = {each.name: given.pop(each.name) for each in declared}
            return command(**given, **({into: options(**values)} if into else values))

        return wrapped

    return decorate


def _declared_option(each: Option) -> Decorator:
    """Return the option of the command line for a declared one."""
    kind = each.kind
    settings: dict[str, Any] = {
        "default": each.default,
        "help": each.help,
        "show_default": each.unset or True,
    }
    settings["callback"] = functools.partial(_checked, each)
    if kind.item is bool:
        return click.option(_flag(each), each.name, is_flag=True, **settings)
    known = each.known()
    settings |= {"type": _type(each), "multiple": kind.length == 0, "nargs": max(1, kind.length)}
    placeholder = each.metavar or _METAVARS.get(kind.item)
    settings["metavar"] = f"[{'|'.join([*known, each.metavar or 'NAME'])}]" if each.names else placeholder
    flags = [each.switch, *([f"--{each.earlier_flag}"] if each.earlier_flag else [])]
    return click.option(*flags, each.name, **settings)


_METAVARS = {int: "N", float: "X", Path: "PATH"}


def _flag(each: Option) -> str:
    plain = each.default is False and not each.negatable
    return f"--{each.flag}" if plain else f"--{each.flag}/--no-{each.flag}"


def _type(each: Option) -> Any:
    kind = each.kind
    if kind.choices:
        return click.Choice(kind.choices)
    if each.bounds is None or each.parse:
        return str if each.parse else {int: int, float: float, Path: click.Path()}.get(kind.item, str)
    limits = each.bounds
    number = click.IntRange if kind.item is int else click.FloatRange
    return number(limits.low, limits.high, min_open=limits.above, max_open=limits.below)  # type: ignore[arg-type]


def _checked(each: Option, _context: click.Context, _option: click.Parameter, value: Any) -> Any:
    try:
        return each.check(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def several(*options: Decorator) -> Decorator:
    """Combine options into one decorator; the help lists them in this order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def output_options(command: Command) -> Command:
    """Add ``--json`` and ``--quiet``, and pass them and any ``--format`` to the command as `output`."""

    @click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON document on stdout instead of text."
    )
    @click.option("--quiet", is_flag=True, help="Print no progress and no notes on stderr, only warnings.")
    @functools.wraps(command)
    def wrapped(*, as_json: bool, quiet: bool, style: str = "text", **options: Any) -> Any:
        return command(output=Output("json" if as_json else style, quiet=quiet), **options)

    return wrapped


def format_option(*formats: str) -> Decorator:
    """Add ``--format``, which `output_options` reads."""
    return click.option(
        "--format", "style", type=click.Choice(formats), default=formats[0], help="Output format."
    )
