"""Parameters of heads: names, defaults and valid values."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from frostline.classifiers.errors import HeadError
from frostline.files.documents import clipped


@dataclass(frozen=True)
class Values:
    """The valid values of a parameter.

    Attributes:
        expects: Description of the valid values, for error messages.
        parse: Function that parses a text, and raises ValueError if it is not valid.
    """

    expects: str
    parse: Callable[[str], Any]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a head.

    Attributes:
        name: Name, as users write it.
        default: Value if neither the user nor the search sets one.
        values: Valid values.
        summary: Short description.
    """

    name: str
    default: Any
    values: Values
    summary: str

    def check(self, value: Any) -> Any:
        """Parse a value of this parameter from a text or a Python value.

        Raises:
            HeadError: The value is not valid for this parameter.
        """
        try:
            return self.values.parse(as_text(value))
        except ValueError:
            got = clipped(as_text(value))
            raise HeadError(f"{self.name}: got {got!r}, expected {self.values.expects}") from None


def as_text(value: Any) -> str:
    """Format a value as users write it."""
    if isinstance(value, tuple | list):
        return ",".join(map(str, value))
    return str(value).strip()


def by_name(*parameters: Parameter) -> Mapping[str, Parameter]:
    """Return a read-only mapping from names to parameters, in the given order."""
    return MappingProxyType({parameter.name: parameter for parameter in parameters})


def number(low: float, high: float = float("inf"), *, closed: bool = False) -> Values:
    """Return the numbers above `low`, or at least `low` if `closed`, and below `high`."""

    def parse(text: str) -> float:
        value = float(text)
        if not (low <= value if closed else low < value) or not value < high:
            raise ValueError
        return value

    bound = f"of at least {low:g}" if closed else f"above {low:g}"
    return Values(f"a number {bound}" + (f" and below {high:g}" if high < float("inf") else ""), parse)


def whole(low: int) -> Values:
    """Return the whole numbers of at least `low`."""

    def parse(text: str) -> int:
        value = int(text)
        if value < low:
            raise ValueError
        return value

    return Values(f"a whole number of at least {low}", parse)


def either(word: str, values: Values) -> Values:
    """Return the given values and one additional word."""

    def parse(text: str) -> Any:
        return text if text == word else values.parse(text)

    return Values(f"{word}, or {values.expects}", parse)


def one_of(*names: str) -> Values:
    """Return a set of valid words."""

    def parse(text: str) -> str:
        if text not in names:
            raise ValueError
        return text

    return Values(f"one of {', '.join(names)}", parse)


def optional(values: Values) -> Values:
    """Return the given values and None."""

    def parse(text: str) -> Any:
        return None if text.lower() == "none" else values.parse(text)

    return Values(f"none, or {values.expects}", parse)


def _parse_flag(text: str) -> bool:
    flags = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in flags:
        raise ValueError
    return flags[text.lower()]


FLAG = Values("true or false", _parse_flag)
POSITIVE = number(0)

CLASS_WEIGHT = Parameter(
    "class_weight", None, optional(one_of("balanced")), "weight classes by their inverse frequency"
)
