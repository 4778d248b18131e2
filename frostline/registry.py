"""Registries: from a name that a user writes to the implementation behind it.

A registry lists its built-in implementations in a table, one line each, and imports one when it is asked for. Other
packages add theirs by an entry point in the registry's group.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from importlib.util import find_spec
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """A built-in implementation.

    Attributes:
        place: Where it is defined, as ``module:attribute``.
        needs: Optional package that it uses; empty if there is none.
        extra: Extra of Frostline that installs `needs`.
    """

    place: str
    needs: str = ""
    extra: str = ""


class Registry(Generic[T]):
    """Implementations of one kind by name: the built-in ones in the order of their table, then those of other packages.

    Args:
        kind: What an implementation is called in messages, e.g. ``head``.
        entries: The built-in ones.
        group: Entry-point group in which other packages declare theirs.
        adopt: Returns the implementation of a name, given the object that its place holds; None if it cannot be one.
        expected: What `adopt` takes, in words.
        error: Type of the errors raised here.
        also: What can be named besides the implementations, in words.
    """

    def __init__(
        self,
        kind: str,
        entries: Mapping[str, Entry],
        *,
        group: str,
        adopt: Callable[[str, object], T | None],
        expected: str,
        error: type[Exception],
        also: str = "",
    ) -> None:
        self.kind = kind
        self.entries = dict(entries)
        self.group = group
        self._adopt = adopt
        self._expected = expected
        self._error = error
        self._also = also
        self._unrivalled: set[str] = set()  # built-in names that no other package declares

    @property
    def builtin(self) -> tuple[str, ...]:
        """Names of the built-in implementations, in order."""
        return tuple(self.entries)

    def __iter__(self) -> Iterator[str]:
        """Names in order; nothing is imported."""
        yield from self.entries
        yield from sorted(self._declared().names - self.entries.keys())

    def __contains__(self, name: object) -> bool:
        return name in self.entries or name in self._declared().names

    def __getitem__(self, name: str) -> T:
        """Import the implementation of a name.

        Raises:
            Exception: Of the registry's type. There is no such name, or more than one implementation of it; an optional
                package is missing; or another package's implementation can't be imported or is none.
        """
        if problem := self.missing(name):
            raise self._error(f"{self.kind} {name!r} {problem}")
        return self.load(name)

    def load(self, name: str) -> T:
        """Import the implementation of a name, whether or not the optional package that it uses is installed.

        Raises:
            Exception: As for ``registry[name]``.
        """
        found = self._find(name)
        where = f"{self.kind} {name!r} ({found.value})"
        try:
            loaded: object = found.load()
        except Exception as error:  # another package's module can raise anything
            if name in self.entries:
                raise
            raise self._error(f"{where} can't be imported: {type(error).__name__}: {error}") from error
        implementation = self._adopt(name, loaded)
        if implementation is None:
            raise self._error(f"{where} is {loaded!r}; expected {self._expected}")
        return implementation

    def missing(self, name: str) -> str:
        """What to install before a built-in implementation can be used, in words; empty if nothing is missing."""
        entry = self.entries.get(name)
        if entry is None or not entry.needs or find_spec(entry.needs) is not None:
            return ""
        return f"needs {entry.needs}, which is not installed: pip install 'frostline[{entry.extra}]'"

    def package(self, name: str) -> dict[str, str]:
        """Version of the package that declares an implementation, by the package's name; empty for a built-in one."""
        return {
            entry.dist.name: entry.dist.version for entry in self._declared().select(name=name) if entry.dist
        }

    def _declared(self) -> EntryPoints:
        return entry_points(group=self.group)

    def _find(self, name: str) -> EntryPoint:
        """The one place of a name."""
        if name in self._unrivalled:
            return self._own(name)
        declared = list(self._declared().select(name=name))
        found = [self._own(name), *declared] if name in self.entries else declared
        if not found:
            raise self._error(
                f"no {self.kind} {name!r}{near(name, self)}; there are {', '.join(self)}"
                + (f", and {self._also}" if self._also else "")
            )
        if len(found) > 1:
            places = [f"{entry.value} of {entry.dist.name}" if entry.dist else entry.value for entry in found]
            raise self._error(
                f"{self.kind} {name!r} is not one but several: {', '.join(places)}. Uninstall the package whose"
                f" {self.kind} is not wanted"
            )
        if name in self.entries:
            self._unrivalled.add(name)
        return found[0]

    def _own(self, name: str) -> EntryPoint:
        return EntryPoint(name, self.entries[name].place, self.group)


def near(name: str, names: Iterable[str]) -> str:
    """Words that propose the names closest to a wrong one; empty if none is close."""
    close = difflib.get_close_matches(name, list(names), n=3, cutoff=0.5)
    return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""
