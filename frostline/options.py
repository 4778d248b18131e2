"""Options, each declared once as a field of a frozen dataclass: its type, default, valid values and help.

The signatures and docstrings of the stages, the options of the command line, the keys of study files, the recorded
settings of runs and the commands that repeat a run are derived from these declarations.
"""

import importlib
import inspect
import operator
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from numbers import Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, NamedTuple, Self, TypeVar, Union, get_args, get_origin

from frostline.errors import OptionError

T = TypeVar("T")

_DECLARED, _ARGUMENT = "frostline.option", "frostline.argument"
SEEDS = (0, 2**32 - 1)
"""Smallest and largest random seed that NumPy, PyTorch and scikit-learn all accept."""


@dataclass(frozen=True)
class Bounds:
    """Range of a number.

    Attributes:
        low: Smallest value; None for no limit.
        high: Largest value; None for no limit.
        above: Whether `low` itself is excluded.
        below: Whether `high` itself is excluded.
    """

    low: float | None = None
    high: float | None = None
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        """Return whether a number is in the range; NaN and infinity never are."""
        reaches = self.low is None or (value > self.low if self.above else value >= self.low)
        stays = self.high is None or (value < self.high if self.below else value <= self.high)
        return reaches and stays and abs(value) < float("inf")

    def __str__(self) -> str:
        if self.low is not None and self.high is not None and not self.above and not self.below:
            return f"{self.low:.10g} to {self.high:.10g}"
        parts = [f"{'above' if self.above else 'at least'} {self.low:g}"] if self.low is not None else []
        parts += [f"{'below' if self.below else 'at most'} {self.high:g}"] if self.high is not None else []
        return (" and " if self.below else ", ").join(parts) or "a finite number"


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
        metavar: Placeholder of the value in help.
        parse: ``module:function`` that converts a text, and raises ValueError if it is invalid.
        names: ``module:REGISTRY`` of the implementations that the value names.
        words: Other valid values beside those of the registry.
        place: Whether the option names a file or folder that is written, or a way to write it, so that it is not a
            setting of the result.
        negatable: Whether the command line also takes ``--no-FLAG`` for an option that is off by default.
    """

    name: str
    annotation: Any
    default: Any
    help: str
    bounds: Bounds | None
    unset: str
    _flag: str
    metavar: str
    parse: str
    names: str
    words: tuple[str, ...]
    place: bool
    negatable: bool

    @property
    def flag(self) -> str:
        """Name on the command line and in study files."""
        return self._flag or self.name.replace("_", "-")

    @property
    def kind(self) -> "Kind":
        """Type of the value."""
        return kind_of(self.annotation)

    def sentence(self) -> str:
        """Return the meaning, the range and the default of the option, without the final full stop."""
        text = re.sub(
            r"frostline [^.;]*|--([a-z][a-z-]*)",  # options of a quoted command stay
            lambda found: f"`{found[1].replace('-', '_')}`" if found[1] else found[0],
            self.help,
        )
        bounds = f" ({self.bounds})" if self.bounds else ""
        unset = f"; by default {self.unset}" if self.unset else ""
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
        """Return a value in the type of the option.

        Raises:
            OptionError: The value has another type, or is out of range.
        """
        if value is None and self.kind.optional:
            return None
        try:
            return self._converted(value)
        except (TypeError, ValueError, OverflowError):
            raise OptionError(f"{self.name}: got {value!r}, expected {self.expected()}") from None

    def arguments(self, value: Any) -> list[str]:
        """Return the arguments of the command line for a value; none for the default."""
        if value == self.default:
            return []
        if self.kind.item is bool:
            return [f"--{self.flag}" if value else f"--no-{self.flag}"]
        if isinstance(value, Mapping):
            value = [f"{name}={_text(item)}" for name, item in value.items()]
        if self.kind.length == 0:
            return [word for item in value for word in (f"--{self.flag}", str(item))]
        return [f"--{self.flag}", *map(str, value if self.kind.length > 1 else [value])]

    def expected(self) -> str:
        """Describe the valid values."""
        kind = self.kind
        if kind.choices:
            text = f"one of {', '.join(kind.choices)}"
        elif kind.item is dict:
            return "values by name" + (", or None" if kind.optional else "")
        elif kind.item in _NUMBERS:
            noun = _NUMBERS[kind.item]
            text = f"{noun}, {self.bounds}" if self.bounds else noun
        else:
            text = _NOUNS.get(kind.item, "a valid value")
        if kind.length != 1:
            text = f"{kind.length or 'a list of'} values, each {text}"
        return f"{text}, or None" if kind.optional else text

    def _converted(self, value: Any) -> Any:
        kind = self.kind
        if kind.item is dict:
            return value if isinstance(value, Mapping) else self._texts(value)
        if kind.length == 1:
            return self._item(value)
        if isinstance(value, str | Path):
            value = (value,)  # one value of a list
        if kind.length not in (0, len(value)):
            raise ValueError
        return tuple(self._item(item) for item in value)

    def _texts(self, value: Any) -> tuple[str, ...]:
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise TypeError
        return tuple(value)

    def _item(self, value: Any) -> Any:
        kind = self.kind
        if kind.item in _NUMBERS:
            return self._number(value)
        accepted = _ACCEPTED.get(kind.item, object)
        if not isinstance(value, accepted) or (kind.choices and value not in kind.choices):
            raise TypeError
        return value

    def _number(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError
        number = operator.index(value) if self.kind.item is int else float(value)  # type: ignore[arg-type]
        if number not in (self.bounds or Bounds()):
            raise ValueError
        return number


_NUMBERS = {int: "a whole number", float: "a number"}
_ACCEPTED: Mapping[Any, Any] = {bool: bool, str: str, Path: str | Path}
_NOUNS = {bool: "True or False", str: "a text", Path: "a path"}


class Kind(NamedTuple):
    """Type of the values of an option.

    Attributes:
        item: Type of a value, or of each value of a sequence: bool, int, float, str, Path or another class.
        choices: Valid texts; empty if any text is valid.
        length: Number of values; 0 for a sequence of any length.
        optional: Whether None is a value.
    """

    item: Any
    choices: tuple[str, ...]
    length: int
    optional: bool


@cache
def kind_of(annotation: Any) -> Kind:
    """Return the kind of values of a type annotation."""
    if isinstance(annotation, str):  # a class that is imported for type checkers only
        return Kind(object, (), 1, annotation.endswith("| None"))
    optional, members = False, [annotation]
    if get_origin(annotation) in (Union, UnionType):
        members = [member for member in get_args(annotation) if member is not NoneType]
        optional = len(members) < len(get_args(annotation))
    if get_origin(members[0]) is Mapping:  # or texts of the form NAME=VALUE
        return Kind(dict, (), 0, optional)
    if Path in members:  # a path is accepted as text as well
        return Kind(Path, (), 1, optional)
    item = next((member for member in members if member is not str), str)
    if get_origin(item) is Literal:
        return Kind(str, get_args(item), 1, optional)
    if get_origin(item) in (tuple, Sequence):
        first, *rest = get_args(item)
        inner = kind_of(first)
        return Kind(inner.item, inner.choices, 0 if not rest or rest == [...] else 1 + len(rest), optional)
    return Kind(item, (), 1, optional)


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
    metavar: str = "",
    parse: str = "",
    names: str = "",
    words: tuple[str, ...] = (),
    place: bool = False,
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
        metavar: Placeholder of the value in help; by default derived from the type.
        parse: ``module:function`` that converts a text, and raises ValueError if it is invalid.
        names: ``module:REGISTRY`` of the implementations that the value names.
        words: Other valid values beside those of the registry.
        place: Whether the option names a file or folder that is written, or a way to write it, so that it is not a
            setting of the result.
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
        "metavar": metavar,
        "parse": parse,
        "names": names,
        "words": words,
        "place": place,
        "negatable": negatable,
    }
    made: T = field(default=default, metadata={_DECLARED: declared})
    return made


def argument(help: str, default: Any = MISSING) -> Any:  # noqa: A002
    """Declare a field of an `Options` class that is an argument of a function alone, and no option of a command.

    Args:
        help: One sentence on its meaning.
        default: Value if the caller gives none; by default the argument is required.
    """
    return field(default=default, repr=False, compare=False, metadata={_ARGUMENT: help})


def nested(default: T, help: str) -> T:  # noqa: A002
    """Declare options of another class as a field: one argument of a function, and several options of a command.

    Args:
        default: Value if the caller gives none.
        help: One sentence on its meaning.
    """
    made: T = field(default=default, metadata={_ARGUMENT: help})
    return made


def seed_option(help: str) -> int:  # noqa: A002
    """Declare a random seed."""
    return option(0, help, low=SEEDS[0], high=SEEDS[1])


@dataclass(frozen=True)
class Options:
    """Base class of options.

    Raises:
        OptionError: A value has another type, or is out of range.
    """

    error: ClassVar[type[OptionError]] = OptionError

    def __post_init__(self) -> None:
        for each in self.declared():
            try:
                object.__setattr__(self, each.name, each.check(getattr(self, each.name)))
            except OptionError as error:
                raise self.error(str(error)) from None

    @classmethod
    def declared(cls) -> tuple[Option, ...]:
        """Return the declarations of all options: positional ones, those of the class itself, and inherited ones."""
        options: Any = cls  # mypy takes a dataclass for unhashable
        return _declared(options)

    def changes(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, by name."""
        pairs = ((each, getattr(self, each.name)) for each in self.declared())
        return {each.name: value for each, value in pairs if value != each.default}

    def settings(self) -> dict[str, Any]:
        """Return all options that a result depends on, by name: those that are no `Option.place`."""
        return {each.name: getattr(self, each.name) for each in self.declared() if not each.place}

    def arguments(self) -> list[str]:
        """Return the arguments of the command line for the options that differ from their defaults."""
        words = [word for each in self.declared() for word in each.arguments(getattr(self, each.name))]
        nested = (getattr(self, each.name) for each in fields(self) if _DECLARED not in each.metadata)
        return [*words, *(word for each in nested if isinstance(each, Options) for word in each.arguments())]

    @classmethod
    def read(cls, settings: Mapping[str, Any], **changes: Any) -> Self:
        """Return the options that were written as `settings`, with changes; names of other options are ignored."""
        names = {each.name for each in cls.declared()}
        return cls(**{**{name: value for name, value in settings.items() if name in names}, **changes})

    @classmethod
    def of(cls, other: "Options", **changes: Any) -> Self:
        """Return the options of this class that another one shares, with changes."""
        shared = {
            each.name: getattr(other, each.name) for each in cls.declared() if hasattr(other, each.name)
        }
        return cls(**{**shared, **changes})


O = TypeVar("O", bound=Options)  # noqa: E741


@cache
def _declared(options: Any) -> tuple[Option, ...]:
    own = inspect.get_annotations(options)
    found = [each for each in fields(options) if _DECLARED in each.metadata]
    found.sort(key=lambda each: 0 if not each.kw_only else 1 if each.name in own else 2)
    return tuple(Option(each.name, each.type, each.default, **each.metadata[_DECLARED]) for each in found)


def documented(options: type[Options]) -> Iterator[str]:
    """Yield one entry per field, as in the section Args of a docstring."""
    declared = {each.name: each.sentence() for each in options.declared()}
    for each in parameters(options):
        yield f"{each.name}: {declared.get(each.name) or _argument(options, each.name)}."


def list_options(text: str, options: type[Options]) -> str:
    """Return a docstring with one entry per field in place of the entry ``options``."""

    def entries(found: re.Match[str]) -> str:
        first, further = found[1], f"{found[1]}    "
        return "".join(
            f"{textwrap.fill(entry, 110, initial_indent=first, subsequent_indent=further)}\n"
            for entry in documented(options)
        )

    return re.sub(r"^( +)options: .*\n(?:\1 {4}.*\n)*", entries, text, count=1, flags=re.MULTILINE)


def described(options: type[O]) -> type[O]:
    """List the options of a class in its docstring, in place of the entry ``options``."""
    options.__doc__ = list_options(options.__doc__ or "", options)
    return options


def parameters(options: type[Options]) -> list[inspect.Parameter]:
    """Return the parameters of the constructor: positional ones, then the options in order, then other arguments."""
    order = [each.name for each in options.declared()]
    return sorted(
        inspect.signature(options).parameters.values(),
        key=lambda each: (
            each.kind is each.KEYWORD_ONLY,
            order.index(each.name) if each.name in order else len(order),
        ),
    )


def _argument(options: type[Options], name: str) -> str:
    return next(str(each.metadata[_ARGUMENT]) for each in fields(options) if each.name == name)


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _located(location: str) -> Any:
    module, _, attribute = location.partition(":")
    found = importlib.import_module(module)
    for name in attribute.split("."):
        found = getattr(found, name)
    return found
