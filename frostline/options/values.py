"""Valid values of an option: their type, number and range."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from numbers import Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

_NUMBERS = {int: "a whole number", float: "a number"}
_ACCEPTED: Mapping[Any, Any] = {bool: bool, str: str, Path: str | Path}
_NOUNS = {bool: "True or False", str: "a text", Path: "a path"}


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


@dataclass(frozen=True)
class Values:
    """Valid values of an option.

    Attributes:
        kind: Type and number of the values.
        bounds: Range of a number, or of each number of a sequence; None for any finite number.
    """

    kind: Kind
    bounds: Bounds | None = None

    def expected(self) -> str:
        """Describe the values."""
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

    def convert(self, value: Any) -> Any:
        """Return a value in the type of the option.

        Raises:
            TypeError: The value has another type.
            ValueError: The value is out of range.
            OverflowError: The number is too large.
        """
        if value is None and self.kind.optional:
            return None
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
        if isinstance(value, str | Path) and "\0" in str(value):  # in no path and in no name
            raise ValueError
        return value

    def _number(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError
        number = operator.index(value) if self.kind.item is int else float(value)  # type: ignore[arg-type]
        if number not in (self.bounds or Bounds()):
            raise ValueError
        return number
