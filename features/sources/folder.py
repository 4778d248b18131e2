"""Image folders: ``class/…``, ``train|val|test/class/…``, or unlabelled images."""

import os
from pathlib import Path

from frostline.features.errors import SourceError
from frostline.features.images.decoding import EXTENSIONS
from frostline.features.sources.files import SPLIT_CODES, FileSource, absolute, make_table
from frostline.features.sources.kinds import SourceKind
from frostline.features.sources.listing import Listing, list_images
from frostline.splits import Split


def open_folder(root: str) -> FileSource:
    """List an image folder.

    An image's class is the first folder on its path, or the first below the split's folder if there are splits.
    Nested folders belong to that class. An image outside any class folder is unlabelled.

    Args:
        root: Path of the folder.

    Raises:
        SourceError: The folder holds no image, a folder can't be read, or split folders are mixed with others.
    """
    root = absolute(root)
    listing = list_images(root)
    if not listing.paths:
        raise SourceError(_nothing_found(root, listing))
    paths = [path.split("/") for path in listing.paths]
    first = int(_has_splits(root, paths))  # position of the class on the path
    table, changed = make_table(
        listing.paths,
        listing.stats,
        labels=[path[first] if len(path) > first + 1 else "" for path in paths],
        split=[SPLIT_CODES[path[0].lower()] if first and len(path) > 1 else Split.NONE for path in paths],
        where=root,
    )
    return FileSource(root, table, changed, folder=root, skipped=listing.skipped)


FOLDER = SourceKind("an image folder", os.path.isdir, open_folder, Path)


def _nothing_found(root: str, listing: Listing) -> str:
    return (
        f"{root}: no image found in {listing.folders} folder(s), where {listing.skipped} hidden or other entries were"
        f" skipped. Expected class/… or train|val|test/class/… with files ending in {', '.join(sorted(EXTENSIONS))}."
    )


def _has_splits(root: str, paths: list[list[str]]) -> bool:
    """Return whether the top-level folders are splits. Only folders that hold images count.

    All of them must have the name of a split. A single folder named like a split among others, such as ``train``
    among vehicles, is a class if it contains images directly. Any other mixture is an error, because a wrong guess
    would give every image a wrong label.
    """
    folders = {path[0] for path in paths if len(path) > 1}
    splits = {name for name in folders if name.lower() in SPLIT_CODES}
    if not splits or splits == folders:
        return bool(splits)
    if len(splits) == 1 and splits <= {path[0] for path in paths if len(path) == 2}:
        return False
    raise SourceError(
        f"{root}: {_listed(splits)} look like splits, but the folder also contains"
        f" {_listed(folders - splits)}. Expected only {', '.join(SPLIT_CODES)} at the top level, or only classes: move the"
        " other folders, or list the images in a manifest (path,label,split)."
    )


def _listed(names: set[str]) -> str:
    shown = sorted(names)[:3]
    more = len(names) - len(shown)
    return ", ".join(map(repr, shown)) + (f" and {more} more" if more else "")
