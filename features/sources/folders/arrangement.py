"""Classes and splits of images from the folders on their paths."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frostline.features.errors import SourceError
from frostline.features.images.unread import unread_formats
from frostline.features.notes import SourceNotes
from frostline.features.sources.files import make_table
from frostline.features.sources.folders.layout import Layout, find_layout
from frostline.features.sources.folders.listing import Listing
from frostline.features.sources.labels import composed, listed
from frostline.features.sources.split_names import SPLIT_CODES, read_split_folders, written
from frostline.features.table import ImageTable


@dataclass(frozen=True, eq=False)
class Arrangement:
    """Images of a folder, or of what holds paths like a folder, such as an archive.

    Attributes:
        table: The images.
        changed: (n,) int64 `FileSource.changed` of the rows.
        notes: How the images were listed, and which entries were skipped.
    """

    table: ImageTable
    changed: NDArray[np.int64]
    notes: SourceNotes


def arrange(
    root: str,
    listing: Listing,
    split_folders: Mapping[str, str] | Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
) -> Arrangement:
    """Return the table of listed images, with the classes and splits that their folders tell.

    An image's class is the first folder on its path, or the first below the split's folder if there are splits.
    Nested folders belong to that class. An image outside any class folder is unlabelled.

    Args:
        root: Where the images are, for messages.
        listing: The images, at least one.
        split_folders: Split of each top-level folder, see `split_names.read_split_folders`; by default their names
            tell, see `layout.find_layout`.
        ids: Id of each image, unique; by default its path.

    Raises:
        SourceError: The splits are not clear, or all folders are left out.
    """
    chosen = None if split_folders is None else read_split_folders(split_folders)
    everything = [path.split("/") for path in listing.paths]
    layout = find_layout(root, everything, chosen)
    kept = [row for row, path in enumerate(everything) if not layout.is_left_out(path)]
    if not kept:
        raise SourceError(f"{root}: every folder that holds images is left out by --split-folders")
    paths = [everything[row] for row in kept]
    labels, remarks = composed([layout.label(path) for path in paths])
    left_out = Counter(path[0] for path in everything if layout.is_left_out(path))
    skipped = listing.skipped(_empty_folders(listing, layout), dict.fromkeys(left_out, 1))
    names = listing.paths if ids is None else ids
    table, changed = make_table(
        [names[row] for row in kept],
        [listing.stats[row] for row in kept],
        labels=labels,
        split=[layout.split(path) for path in paths],
        where=root,
    )
    notes = SourceNotes(
        split_folders=written(layout.splits),
        skipped=skipped,
        remarks=(
            *remarks,
            *_only_class(root, paths, layout),
            *_nested_splits(root, paths, layout),
            *_twice(listing),
            *unread_formats(skipped.files),
        ),
    )
    return Arrangement(table, changed, notes)


def _empty_folders(listing: Listing, layout: Layout) -> Iterator[str]:
    """Yield the folders in place of a class, or above, that hold no image."""
    filled = {""}
    for path in listing.paths:
        parts = path.split("/")
        filled |= {"/".join([*parts[:depth], ""]) for depth in range(1, len(parts))}
    for folder in sorted(listing.folders):
        parts = folder.removesuffix("/").split("/")
        above = "/".join([*parts[:-1], ""]) if len(parts) > 1 else ""
        if folder not in filled and above in filled and len(parts) <= layout.depths.get(parts[0], 0) + 1:
            yield folder.removesuffix("/")


def _twice(listing: Listing) -> Iterator[str]:
    """Yield a remark for each folder whose images are listed twice."""
    for first, second in listing.same:
        yield f"{first!r} and {second!r} are one folder, because of a link, and its images are listed twice"


def _nested_splits(root: str, paths: Sequence[Sequence[str]], layout: Layout) -> Iterator[str]:
    """Yield a remark for each class whose sub-folders have names of splits."""
    below: dict[str, set[str]] = {}
    for path in paths:
        depth = layout.depths.get(path[0], 0)
        if len(path) > depth + 2 and path[depth + 1].lower() in SPLIT_CODES:
            below.setdefault("/".join(path[: depth + 1]), set()).add(path[depth + 1])
    for folder, names in sorted(below.items()):
        yield (
            f"{folder!r} is a class, and its sub-folders {listed(names)} are named like splits; if they are splits, name"
            f" it instead: {root}/{folder}"
        )


def _only_class(root: str, paths: Sequence[Sequence[str]], layout: Layout) -> Iterator[str]:
    """Yield a remark if a single class has sub-folders, which may be the classes: an unpacked archive, for example."""
    classes = {label for path in paths if (label := layout.label(path))}
    if len(classes) != 1:
        return
    depths = [layout.depths.get(path[0], 0) + 1 for path in paths]
    below = {path[depth] for path, depth in zip(paths, depths, strict=True) if len(path) > depth + 1}
    (only,) = classes
    if {name.lower() for name in below} & SPLIT_CODES.keys():
        return  # `_nested_splits` says it
    if below and layout.splits:
        yield f"the only class is {only!r}, with the sub-folders {listed(below)}; if these are the classes, move them up"
    elif below:
        yield (
            f"{only!r} is the only folder with images, so it is the only class. If its sub-folders ({listed(below)}) are"
            f" the classes or splits, name it instead: {root}/{only}"
        )
