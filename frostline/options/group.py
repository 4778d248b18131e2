"""Base class of options, which are declared as its fields."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, ClassVar, Self

from frostline.errors import OptionError
from frostline.options.declaration import OPTION, Option


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
        """Return all options that a result depends on, by name: those of which `Option.setting` is true."""
        return {each.name: getattr(self, each.name) for each in self.declared() if each.setting}

    def arguments(self) -> list[str]:
        """Return the arguments of the command line for the options that differ from their defaults."""
        words = [word for each in self.declared() for word in each.arguments(getattr(self, each.name))]
        nested = (getattr(self, each.name) for each in fields(self) if OPTION not in each.metadata)
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


@cache
def _declared(options: Any) -> tuple[Option, ...]:
    own = inspect.get_annotations(options)
    found = [each for each in fields(options) if OPTION in each.metadata]
    found.sort(key=lambda each: 0 if not each.kw_only else 1 if each.name in own else 2)
    return tuple(Option(each.name, each.type, each.default, **each.metadata[OPTION]) for each in found)
