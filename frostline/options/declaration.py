"""Declaration of an option as a field of a dataclass."""

import importlib
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from typing import Any, TypeVar

from frostline.errors import OptionError
from frostline.options.values import Bounds, Kind, Values, kind_of

T = TypeVar("T")

OPTION, ARGUMENT = "frostline.option", "frostline.argument"  # keys of the metadata of a field
SEEDS = (0, 2**32 - 1)
"""Smallest and largest random seed that NumPy, PyTorch and scikit-learn all accept."""


@dataclass(frozen=True)
class Option:
    """Declaration of an option.

    Attributes:
        name: Name of the field.
        annotation: Type of the value.
        default: Value if the user gives none.
        help: One sentence on its meaning.
        bounds: Range of a number, or of each number of a sequence.
        unset: What None stands for, such as ``one per core``.
        earlier_flag: Name that the command line takes as well, because earlier versions had it.
        metavar: Placeholder of the value in help.
        parse: ``module:function`` that converts a text, and raises ValueError if it is invalid.
        names: ``module:REGISTRY`` of the implementations that the value names.
        words: Other valid values beside those of the registry.
        setting: Whether the result depends on the option, other than a path to write or a number of processes.
        negatable: Whether the command line also takes ``--no-FLAG`` for an option that is off by default.
    """

    name: str
    annotation: Any
    default: Any
    help: str
    bounds: Bounds | None
    unset: str
    _flag: str
    earlier_flag: str
    metavar: str
    parse: str
    names: str
    words: tuple[str, ...]
    setting: bool
    negatable: bool

    @property
    def flag(self) -> str:
        """Name on the command line and in study files."""
        return self._flag or self.name.replace("_", "-")

    @property
    def switch(self) -> str:
        """Option of the command line: ``--flag``, or ``-k`` for a single letter."""
        return f"{'-' if len(self.flag) == 1 else '--'}{self.flag}"

    @property
    def kind(self) -> Kind:
        """Type of the value."""
        return kind_of(self.annotation)

    def sentence(self) -> str:
        """Return the meaning, the range and the default of the option, without the final full stop."""
        text = _in_python(self.help)
        bounds = f" ({self.bounds})" if self.bounds else ""
        unset = f"; by default {_in_python(self.unset)}" if self.unset else ""
        return f"{text.removesuffix('.')}{bounds}{unset}"

    def parser(self) -> Any:
        """Return the function that converts a text; None if the type determines the conversion."""
        return _located(self.parse) if self.parse else None

    def known(self) -> tuple[str, ...]:
        """Return the names that are valid; empty if any text is."""
        if self.kind.choices:
            return self.kind.choices
        return (*self.words, *_located(self.names)) if self.names else ()

    def look_up(self, value: str) -> Any:
        """Import and return the implementation that a value names; None for a word without one, such as ``auto``.

        Raises:
            Exception: The error of the registry: the name is unknown, or an optional package is missing.
        """
        return None if value in self.words else _located(self.names)[value]

    def check(self, value: Any) -> Any:
        """Return a value in the type of the option; a text that the option can parse is parsed.

        Raises:
            OptionError: The value has another type, or is out of range.
        """
        if self.parse and isinstance(value, str):
            try:
                return self.parser()(value)
            except ValueError as error:
                raise OptionError(f"{self.name}: {error}") from None
        values = Values(self.kind, self.bounds)
        try:
            if value == "" and self.default != "":
                raise ValueError  # noqa: TRY301  # the message below
            return values.convert(value)
        except (TypeError, ValueError, OverflowError):
            raise OptionError(f"{self.name}: got {value!r}, expected {values.expected()}") from None

    def arguments(self, value: Any) -> list[str]:
        """Return the arguments of the command line for a value; none for the default."""
        if value == self.default:
            return []
        if self.kind.item is bool:
            return [f"--{self.flag}" if value else f"--no-{self.flag}"]
        if isinstance(value, Mapping):
            value = [f"{name}={_text(item)}" for name, item in value.items()]
        if self.kind.length == 0:
            return [word for item in value for word in (self.switch, str(item))]
        return [self.switch, *map(str, value if self.kind.length > 1 else [value])]


def option(
    default: T,
    help: str,  # noqa: A002  # the word of argparse and click
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    unset: str = "",
    flag: str = "",
    earlier_flag: str = "",
    metavar: str = "",
    parse: str = "",
    names: str = "",
    words: tuple[str, ...] = (),
    setting: bool = True,
    negatable: bool = False,
) -> T:
    """Declare an option as a field of an `Options` class.

    Args:
        default: Value if the user gives none.
        help: One sentence on its meaning, in plain words.
        low: Smallest valid number.
        high: Largest valid number.
        above: Number that valid ones exceed.
        below: Number that exceeds valid ones.
        unset: What None stands for, such as ``one per core``.
        flag: Name on the command line and in study files; by default the name of the field.
        earlier_flag: Name that the command line takes as well, because earlier versions had it.
        metavar: Placeholder of the value in help; by default derived from the type.
        parse: ``module:function`` that converts a text, and raises ValueError if it is invalid.
        names: ``module:REGISTRY`` of the implementations that the value names.
        words: Other valid values beside those of the registry.
        setting: Whether the result depends on the option, other than a path to write or a number of processes.
        negatable: Whether the command line also takes ``--no-FLAG`` for an option that is off by default.
    """
    bounded = any(limit is not None for limit in (low, high, above, below))
    bounds = Bounds(
        above if low is None else low, below if high is None else high, above is not None, below is not None
    )
    declared = {
        "help": help,
        "bounds": bounds if bounded else None,
        "unset": unset,
        "_flag": flag,
        "earlier_flag": earlier_flag,
        "metavar": metavar,
        "parse": parse,
        "names": names,
        "words": words,
        "setting": setting,
        "negatable": negatable,
    }
    made: T = field(default=default, metadata={OPTION: declared})
    return made


def argument(help: str, default: Any = MISSING) -> Any:  # noqa: A002
    """Declare a field of an `Options` class that is an argument of a function alone, and no option of a command.

    Args:
        help: One sentence on its meaning.
        default: Value if the caller gives none; by default the argument is required.
    """
    return field(default=default, repr=False, compare=False, metadata={ARGUMENT: help})


def nested(default: T, help: str) -> T:  # noqa: A002
    """Declare options of another class as a field: one argument of a function, and several options of a command.

    Args:
        default: Value if the caller gives none.
        help: One sentence on its meaning.
    """
    made: T = field(default=default, metadata={ARGUMENT: help})
    return made


def seed_option(help: str) -> int:  # noqa: A002
    """Declare a random seed."""
    return option(0, help, low=SEEDS[0], high=SEEDS[1])


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _located(location: str) -> Any:
    module, _, attribute = location.partition(":")
    found = importlib.import_module(module)
    for name in attribute.split("."):
        found = getattr(found, name)
    return found


def _in_python(text: str) -> str:
    """Return a text with the names of arguments in place of those on the command line."""
    return re.sub(
        r"frostline [^.;]*|--([a-z][a-z-]*)",  # options of a quoted command stay
        lambda found: f"`{found[1].replace('-', '_')}`" if found[1] else found[0],
        text,
    )
