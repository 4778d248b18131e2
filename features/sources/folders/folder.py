"""Image folders: ``class/…``, ``train|val|test/class/…``, or unlabelled images."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from frostline.features.errors import SourceError
from frostline.features.images.decoding import extensions
from frostline.features.images.unread import unread_formats
from frostline.features.notes import SourceNotes
from frostline.features.sources.files import FileSource, absolute, make_table
from frostline.features.sources.folders.layout import Layout, find_layout
from frostline.features.sources.folders.listing import Listing, list_images
from frostline.features.sources.kinds import SourceKind
from frostline.features.sources.labels import composed, listed
from frostline.features.sources.split_names import SPLIT_CODES, read_split_folders, written


def open_folder(root: str, *, split_folders: Mapping[str, str] | Sequence[str] | None = None) -> FileSource:
    """List an image folder.

    An image's class is the first folder on its path, or the first below the split's folder if there are splits.
    Nested folders belong to that class. An image outside any class folder is unlabelled.

    Args:
        root: Path of the folder.
        split_folders: Split of each top-level folder, see `split_names.read_split_folders`; by default their names
            tell, see `layout.find_layout`.

    Raises:
        SourceError: The folder holds no image, a folder can't be read, or the splits are not clear.
    """
    root = absolute(root)
    chosen = None if split_folders is None else read_split_folders(split_folders)
    listing = list_images(root)
    if not listing.paths:
        raise SourceError(_nothing_found(root, listing))
    everything = [path.split("/") for path in listing.paths]
    layout = find_layout(root, everything, chosen)
    kept = [row for row, path in enumerate(everything) if not layout.is_left_out(path)]
    if not kept:
        raise SourceError(f"{root}: every folder that holds images is left out by --split-folders")
    paths = [everything[row] for row in kept]
    labels, remarks = composed([layout.label(path) for path in paths])
    left_out = Counter(path[0] for path in everything if layout.is_left_out(path))
    skipped = listing.skipped(_empty_folders(listing, layout), dict.fromkeys(left_out, 1))
    table, changed = make_table(
        [listing.paths[row] for row in kept],
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
    return FileSource(root, table, changed, folder=root, notes=notes)


FOLDER = SourceKind("an image folder", os.path.isdir, open_folder, Path, options=("split_folders",))


def _nothing_found(root: str, listing: Listing) -> str:
    skipped = listing.skipped().describe()
    return "".join(
        [
            f"{root}: no image found in {len(listing.folders)} folder(s)",
            f", where {skipped} were skipped" if skipped else "",
            ". Expected class/… or train|val|test/class/… with files ending in ",
            f"{', '.join(sorted(extensions()))}.",
            *(f" {remark}." for remark in unread_formats(listing.files)),
        ]
    )


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
