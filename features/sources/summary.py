"""Summary of a source: the images found and the entries skipped."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from frostline.features.notes import Skipped, SourceNotes
from frostline.features.sources.labels import listed, similar
from frostline.features.table import NO_STAMP, ImageSource, ImageTable
from frostline.splits import SPLITS, Split

_NAMED = 3


@dataclass(frozen=True)
class SourceSummary:
    """Images found in a source, and entries skipped.

    Attributes:
        source: Location of the images.
        images: Number of images.
        classes: Number of images of each class.
        splits: Number of images by split, "" for none.
        unlabelled: Number of images without a label.
        missing: Number of images that don't exist or can't be accessed.
        missing_names: The first of them.
        columns: Column of a manifest by what it was taken for: path, label, split or group.
        side_columns: Columns that are kept beside: numbers and short texts.
        unused_columns: Columns of a manifest that are neither taken for something nor kept beside.
        split_folders: Split by top-level folder, if these folders are splits.
        skipped: Entries of the folder that were skipped.
        remarks: Sentences on what the user should know: assumptions, and what may be missing.
    """

    source: str
    images: int
    classes: Mapping[str, int]
    splits: Mapping[str, int]
    unlabelled: int
    missing: int
    missing_names: tuple[str, ...]
    columns: Mapping[str, str]
    side_columns: tuple[str, ...]
    unused_columns: tuple[str, ...]
    split_folders: Mapping[str, str]
    skipped: Skipped
    remarks: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """Yield the summary as lines of text, without the remarks."""
        yield f"{self.source}: {_images(self.images)}, {self._classes()}"
        counts = [f"{count} {name or 'without a split'}" for name, count in self.splits.items()]
        if any(self.splits):
            folders = {name: split for name, split in self.split_folders.items() if name.lower() != split}
            named = ", ".join(f"{folder} is {split}" for folder, split in folders.items())
            yield f"  splits: {', '.join(counts)}" + (f" ({named})" if named else "")
        columns = [f"{role} from {column!r}" for role, column in self.columns.items()]
        taken = [", ".join(columns)] if columns else []
        taken += [f"kept beside: {listed(self.side_columns)}"] if self.side_columns else []
        taken += [f"not used: {listed(self.unused_columns)}"] if self.unused_columns else []
        if taken:
            yield f"  columns: {'; '.join(taken)}"
        if self.missing:
            names = ", ".join(map(repr, self.missing_names))
            more = self.missing - len(self.missing_names)
            yield f"  missing or not accessible: {self.missing} ({names}{f' and {more} more' if more else ''})"
        if text := self.skipped.describe():
            yield f"  skipped: {text}"
        if self.skipped.empty_folders:
            yield f"  folders without an image: {listed(self.skipped.empty_folders)}"

    def _classes(self) -> str:
        if not self.classes:
            return "none with a label"
        small = min(self.classes, key=lambda name: self.classes[name])
        large = max(self.classes, key=lambda name: self.classes[name])
        sizes = f"{_images(self.classes[small])} of {small!r} to {self.classes[large]} of {large!r}"
        if self.classes[small] == self.classes[large]:
            sizes = f"{_images(self.classes[small])}{' each' * (len(self.classes) > 1)}"
        count = f"{len(self.classes)} class{'' if len(self.classes) == 1 else 'es'}"
        unlabelled = f", {self.unlabelled} without a label" if self.unlabelled else ""
        return f"{count} ({sizes}){unlabelled}"


def _images(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"


def summarise(source: ImageSource) -> SourceSummary:
    """Return what was found in a source."""
    table, notes = source.table, source.notes
    labels = np.bincount(table.labels[table.labels >= 0], minlength=len(table.classes))
    missing = np.flatnonzero((table.stamps == np.frombuffer(NO_STAMP, np.uint8)).all(axis=1))
    splits = np.bincount(table.split, minlength=len(SPLITS)).tolist()
    return SourceSummary(
        source=source.root,
        images=len(table),
        classes=dict(zip(table.classes, labels.tolist(), strict=True)),
        splits={name: count for name, count in zip(SPLITS, splits, strict=True) if count},
        unlabelled=int((table.labels < 0).sum()),
        missing=len(missing),
        missing_names=tuple(table.ids[row].decode() for row in missing[:_NAMED]),
        columns=notes.columns,
        side_columns=tuple(column.name for column in table.columns),
        unused_columns=notes.unused_columns,
        split_folders=notes.split_folders,
        skipped=notes.skipped,
        remarks=(*_of_classes(table, notes), *notes.remarks),
    )


def _of_classes(table: ImageTable, notes: SourceNotes) -> Iterator[str]:
    for names in similar(table.classes):
        yield f"{listed(names)} differ only in case or blanks, and are {len(names)} classes"
    if notes.skipped.empty_folders:
        yield f"no image was found in {listed(notes.skipped.empty_folders)}"
    labelled = table.labels >= 0
    loose = int((labelled & (table.split == Split.NONE)).sum())
    split = int((labelled & (table.split != Split.NONE)).sum())
    if loose and split:
        yield (
            f"{loose} labelled images have no split, while {split} others have one; heads and networks are neither"
            " trained nor evaluated on them"
        )
