"""Interface and registry of the importers."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from frostline.features.errors import VectorsError
from frostline.registry import Entry, Registry

if TYPE_CHECKING:
    from contextlib import ExitStack

    from frostline.features.cache.imported.vectors import Scratch, Vectors

NOTHING: Final = "none"
"""Choice for what the file is not to tell."""

_OWN_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "id": ("id", "ids"),
    "label": ("label", "labels"),
    "split": ("split", "splits"),
    "group": ("group", "groups"),
    "classes": ("classes", "class_names"),
}
"""Names that are taken for each role without being chosen."""

OPTION_OF: Final[Mapping[str, str]] = {
    "id": "ids",
    "label": "labels",
    "split": "split",
    "group": "groups",
    "classes": "classes",
}
"""Option that chooses each role."""


@dataclass(frozen=True, eq=False)
class Wanted:
    """What is to be read from a file.

    Attributes:
        path: Absolute path of the file.
        roles: Name that the user chose by role: id, label, split, group, classes.
        arrays: Names of the arrays or columns of lists with vectors; empty for the only one.
        columns: Pattern of the columns that are numbers of the vector; None to find them.
        scratch: Place for copies of vectors that can only be read in order.
        stack: Closes what was opened.
    """

    path: str
    roles: Mapping[str, str]
    arrays: Sequence[str]
    columns: str | None
    scratch: "Scratch"
    stack: "ExitStack"

    def role(self, role: str, names: Collection[str]) -> str | None:
        """Return the name in the file of what tells a role; None if the file does not tell it.

        A name that is not in the file may be that of another file, which is read later.

        Raises:
            VectorsError: The chosen name is neither.
        """
        chosen = self.roles.get(role)
        if chosen is None:
            folded = {name.strip().lower(): name for name in names}
            found = [folded[name] for name in _OWN_NAMES[role] if name in folded]
            if len(found) > 1:
                raise VectorsError(
                    f"{self.path}: both {found[0]!r} and {found[1]!r} may tell the {role}; choose one with --{OPTION_OF[role]}"
                )
            return found[0] if found else None
        if chosen in names:
            return chosen
        if chosen == NOTHING or side_path(chosen).exists():
            return None
        raise VectorsError(
            f"{self.path}: --{OPTION_OF[role]}: it has no {chosen!r}, and there is no such file; it has"
            f" {', '.join(map(repr, names)) or 'no names'}"
        )


def side_path(chosen: str) -> Path:
    """Return the path of a file that tells a role, which may be followed by a column: ``rows.csv:name``."""
    path, colon, _ = chosen.rpartition(":")
    return Path(path if colon and not Path(chosen).exists() and len(path) > 1 else chosen)


@dataclass(frozen=True, eq=False)
class FoundVectors:
    """Vectors in a file, and what it tells of them.

    Attributes:
        layers: (n, d) vectors by key of the layer.
        facts: Values of each role that the file tells, in the order of the vectors.
        columns: Name in the file of each role in `facts`.
        side: Numbers or texts of the side columns that the file tells, by name, in the order of the vectors.
        unused: What else the file holds.
        description: What an export of Frostline says of the vectors.
    """

    layers: "Mapping[str, Vectors]"
    facts: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    side: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    unused: Sequence[str] = ()
    description: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Importer:
    """A format that vectors are read from.

    Attributes:
        summary: What is read, in a few words.
        suffixes: Ends of the names of such files, in lower case.
        read: Function that reads what is wanted. It raises `VectorsError` or `OSError`, runs no code from the file, and
            holds a few blocks in memory, whatever the number of rows.
    """

    summary: str
    suffixes: tuple[str, ...]
    read: Callable[[Wanted], FoundVectors]


_HERE = "frostline.pipeline.importing"

IMPORTERS: Registry[Importer] = Registry(
    "importer",
    {
        "npy": Entry(f"{_HERE}.numpy_files:NPY"),
        "npz": Entry(f"{_HERE}.numpy_files:NPZ"),
        "hdf5": Entry(f"{_HERE}.hdf5_file:HDF5"),
        "safetensors": Entry(f"{_HERE}.safetensors_file:SAFETENSORS"),
        "torch": Entry(f"{_HERE}.torch_file:TORCH"),
        "parquet": Entry(f"{_HERE}.arrow_tables:PARQUET", "pyarrow", "parquet"),
        "arrow": Entry(f"{_HERE}.arrow_tables:ARROW", "pyarrow", "parquet"),
        "csv": Entry(f"{_HERE}.text_tables:CSV"),
        "json-lines": Entry(f"{_HERE}.text_tables:JSON_LINES"),
    },
    group="frostline.importers",
    adopt=lambda _name, found: found if isinstance(found, Importer) else None,
    expected="a pipeline.importing.importers.Importer",
    error=VectorsError,
)
"""Registry of the importers. The first whose suffixes fit the name of a file reads it."""

_SUFFIXES: Final[Mapping[str, tuple[str, ...]]] = {
    "parquet": (".parquet",),
    "arrow": (".arrow", ".feather"),
}
"""Suffixes of formats whose importer can't be loaded without an optional package."""


def importer_of(path: str) -> Importer:
    """Return the importer of a file by the end of its name.

    Raises:
        VectorsError: There is none, or it needs a package that is not installed.
    """
    name = path.lower()
    known: list[str] = []
    for each in IMPORTERS:
        missing = bool(IMPORTERS.missing(each))
        suffixes = _SUFFIXES[each] if missing else IMPORTERS[each].suffixes
        known += suffixes
        if name.endswith(suffixes):
            return IMPORTERS[each]
    raise VectorsError(f"{path}: expected a file ending in {', '.join(known)}")
