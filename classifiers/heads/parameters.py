"""The parameters of heads: what each is called, and which values it takes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from frostline.classifiers.errors import HeadError


@dataclass(frozen=True)
class Values:
    """What a parameter can be.

    Attributes:
        expects: In words.
        parse: From text; ValueError where the text is no such value.
    """

    expects: str
    parse: Callable[[str], Any]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a head.

    Attributes:
        name: As the user writes it.
        default: Its value where neither the user nor the search says otherwise.
        values: What it can be.
        summary: What it does.
    """

    name: str
    default: Any
    values: Values
    summary: str

    def check(self, value: Any) -> Any:
        """The value in this parameter's own type, from text or from a Python value.

        Raises:
            HeadError: It can't be that.
        """
        try:
            return self.values.parse(as_text(value))
        except ValueError:
            raise HeadError(f"{self.name}: got {as_text(value)!r}, expected {self.values.expects}") from None


def as_text(value: Any) -> str:
    """A value as a user writes it."""
    if isinstance(value, tuple | list):
        return ",".join(map(str, value))
    return str(value).strip()


def by_name(*parameters: Parameter) -> Mapping[str, Parameter]:
    """Parameters in the order given, by name."""
    return MappingProxyType({parameter.name: parameter for parameter in parameters})


def number(low: float, high: float = float("inf"), *, closed: bool = False) -> Values:
    """Numbers from `low`, itself included where the interval is `closed`, to below `high`."""

    def parse(text: str) -> float:
        value = float(text)
        if not (low <= value if closed else low < value) or not value < high:
            raise ValueError
        return value

    bound = f"of at least {low:g}" if closed else f"above {low:g}"
    return Values(f"a number {bound}" + (f" and below {high:g}" if high < float("inf") else ""), parse)


def whole(low: int) -> Values:
    """Whole numbers of at least `low`."""

    def parse(text: str) -> int:
        value = int(text)
        if value < low:
            raise ValueError
        return value

    return Values(f"a whole number of at least {low}", parse)


def either(word: str, values: Values) -> Values:
    """One word, or a value."""

    def parse(text: str) -> Any:
        return text if text == word else values.parse(text)

    return Values(f"{word}, or {values.expects}", parse)


def one_of(*names: str) -> Values:
    """One of several words."""

    def parse(text: str) -> str:
        if text not in names:
            raise ValueError
        return text

    return Values(f"one of {', '.join(names)}", parse)


def optional(values: Values) -> Values:
    """None, or a value."""

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
    "class_weight", None, optional(one_of("balanced")), "weigh classes by their inverse frequency"
)
