"""Notes on the listing of a source: how it was read, and which entries were skipped."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, TypeVar

from frostline.files.documents import convert, parse_json

T = TypeVar("T")

_KEPT = 100


@dataclass(frozen=True)
class Skipped:
    """Entries of a folder that were skipped.

    Attributes:
        files: Number of files that are not read by extension, in lower case; "" stands for no extension.
        hidden: Number of other files and folders whose name starts with a dot.
        folders: Number of folders by name that hold no images of the set: those of systems and programs, such as
            ``@eaDir``, and those that the user left out.
        special: Number of pipes, sockets and devices with the name of an image.
        loops: Number of links to a folder that contains them.
        empty_folders: Paths of the folders that stand in place of a class and hold no image that is read.
    """

    files: Mapping[str, int] = field(default_factory=dict)
    hidden: int = 0
    folders: Mapping[str, int] = field(default_factory=dict)
    special: int = 0
    loops: int = 0
    empty_folders: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Number of entries, without the empty folders."""
        return sum(self.files.values()) + self.hidden + sum(self.folders.values()) + self.special + self.loops

    def describe(self) -> str:
        """Return the numbers of entries, as ``16 .heic, 2 hidden``; empty if there is none."""
        parts = [f"{count} {extension or 'without extension'}" for extension, count in self.files.items()]
        parts += [f"{self.hidden} hidden"] if self.hidden else []
        parts += [f"{count} folder(s) {name}" for name, count in self.folders.items()]
        parts += [f"{self.special} pipe(s), socket(s) or device(s)"] if self.special else []
        parts += [f"{self.loops} link(s) to a parent folder"] if self.loops else []
        return ", ".join(parts)


@dataclass(frozen=True)
class SourceNotes:
    """Notes on the listing of a source.

    Attributes:
        options: Options that said how to read the source, as far as they were given.
        columns: Column of a manifest by what it was taken for: path, label, split or group.
        unused_columns: Columns of a manifest that are neither taken for something nor kept beside.
        split_folders: Split by top-level folder, if these folders are splits.
        skipped: Entries that were skipped.
        remarks: Sentences on what the user should know: assumptions, and what may be missing.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    unused_columns: tuple[str, ...] = ()
    split_folders: Mapping[str, str] = field(default_factory=dict)
    skipped: Skipped = field(default_factory=Skipped)
    remarks: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        """Return the notes as JSON, with at most 100 entries per list and mapping."""
        skipped = replace(
            self.skipped,
            files=_shortened(self.skipped.files),
            folders=_shortened(self.skipped.folders),
            empty_folders=self.skipped.empty_folders[:_KEPT],
        )
        kept = replace(
            self,
            unused_columns=self.unused_columns[:_KEPT],
            split_folders=_shortened(self.split_folders),
            skipped=skipped,
        )
        return json.dumps(asdict(kept)).encode()  # names of files need not be UTF-8, as msgspec wants them

    @classmethod
    def from_json(cls, text: bytes) -> "SourceNotes":
        """Return the notes that were written as JSON.

        Raises:
            ValueError: The text is not JSON of notes.
        """
        return convert(parse_json(text), cls)


NO_NOTES: Final = SourceNotes()
"""Notes of a source of which nothing is to be said."""


def _shortened(values: Mapping[str, T]) -> Mapping[str, T]:
    return dict(list(values.items())[:_KEPT])
