"""Registries that map names to implementations.

A registry lists its built-in implementations in a table, one line each, and imports an implementation on first use.
Other packages register theirs with an entry point in the registry's group.
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
    """Built-in implementation of a registry.

    Attributes:
        location: Location of its definition, as ``module:attribute``.
        needs: Optional package that it requires; empty for none.
        extra: Extra of Frostline that installs `needs`.
    """

    location: str
    needs: str = ""
    extra: str = ""


class Registry(Generic[T]):
    """Mapping from names to implementations of one kind.

    Built-in implementations come first, in the order of their table. Those of other packages follow, sorted by
    name.

    Args:
        kind: Word for an implementation in messages, e.g. ``head``.
        entries: Built-in implementations by name.
        group: Entry-point group in which other packages declare theirs.
        adopt: Function that returns the implementation, given a name and the object at its location, or None if the
            object is not valid.
        expected: Description of the objects that `adopt` accepts, for messages.
        error: Type of the errors raised here.
        also: Further accepted names, for messages.
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
        self._unique: set[str] = set()  # built-in names that no other package declares

    @property
    def builtin(self) -> tuple[str, ...]:
        """Names of the built-in implementations, in the order of their table."""
        return tuple(self.entries)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names in order, without importing anything."""
        yield from self.entries
        yield from sorted(self._declared().names - self.entries.keys())

    def __contains__(self, name: object) -> bool:
        return name in self.entries or name in self._declared().names

    def __getitem__(self, name: str) -> T:
        """Import and return the implementation of a name.

        Raises:
            Exception: An error of the registry's type. The name is unknown or has several implementations, an
                optional package is missing, or the implementation of another package can't be imported or is not
                valid.
        """
        if problem := self.missing(name):
            raise self._error(f"{self.kind} {name!r} {problem}")
        return self.load(name)

    def load(self, name: str) -> T:
        """Import and return the implementation of a name without checking for its optional package.

        Raises:
            Exception: See ``registry[name]``.
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
        """Return a message that names the missing optional package of a built-in implementation; empty for none."""
        entry = self.entries.get(name)
        if entry is None or not entry.needs or find_spec(entry.needs) is not None:
            return ""
        return f"needs {entry.needs}, which is not installed: pip install 'frostline[{entry.extra}]'"

    def package(self, name: str) -> dict[str, str]:
        """Return the name and version of the package that declares an implementation; empty for a built-in one."""
        return {
            entry.dist.name: entry.dist.version for entry in self._declared().select(name=name) if entry.dist
        }

    def declares(self, location: str) -> bool:
        """Return whether an installed package declares the object at a location ``module:attribute``."""
        return any(entry.value.replace(" ", "") == location for entry in self._declared())

    def _declared(self) -> EntryPoints:
        return entry_points(group=self.group)

    def _find(self, name: str) -> EntryPoint:
        """Return the entry point of a name, which must be unique."""
        if name in self._unique:
            return self._own(name)
        declared = list(self._declared().select(name=name))
        found = [self._own(name), *declared] if name in self.entries else declared
        if not found:
            raise self._error(
                f"no {self.kind} {name!r}{near(name, self)}; expected one of {', '.join(self)}"
                + (f", or {self._also}" if self._also else "")
            )
        if len(found) > 1:
            locations = [
                f"{entry.value} of {entry.dist.name}" if entry.dist else entry.value for entry in found
            ]
            raise self._error(
                f"{self.kind} {name!r} is declared more than once: {', '.join(locations)}. Uninstall the packages whose"
                f" {self.kind} you don't need"
            )
        if name in self.entries:
            self._unique.add(name)
        return found[0]

    def _own(self, name: str) -> EntryPoint:
        return EntryPoint(name, self.entries[name].location, self.group)


def near(name: str, names: Iterable[str]) -> str:
    """Return a "did you mean" hint with the names closest to an unknown name; empty if no name is close."""
    close = difflib.get_close_matches(name, list(names), n=3, cutoff=0.5)
    return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""
