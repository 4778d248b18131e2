"""An image folder: ``class/…``, ``train|val|test/class/…``, or images of no class."""

from frostline.features.errors import SourceError
from frostline.features.images.decoding import EXTENSIONS
from frostline.features.sources.files import SPLIT_CODES, FileSource, make_table
from frostline.features.sources.listing import Listing, list_images
from frostline.splits import Split


def open_folder(root: str) -> FileSource:
    """List an image folder.

    An image's class is the first folder on its path, below the split's folder if there are splits. Folders further down
    belong to that class, and an image outside of all of them has none.

    Args:
        root: Absolute path.

    Raises:
        SourceError: No image in it, a folder that can't be read, or a mixture of split folders with others.
    """
    listing = list_images(root)
    if not listing.paths:
        raise SourceError(_nothing_found(root, listing))
    paths = [path.split("/") for path in listing.paths]
    first = int(_has_splits(root, paths))  # where on the path the class is
    table = make_table(
        listing.paths,
        listing.stats,
        labels=[path[first] if len(path) > first + 1 else "" for path in paths],
        split=[SPLIT_CODES[path[0].lower()] if first and len(path) > 1 else Split.NONE for path in paths],
        where=root,
    )
    return FileSource(root, table, folder=root, skipped=listing.skipped)


def _nothing_found(root: str, listing: Listing) -> str:
    return (
        f"{root}: no image found in {listing.folders} folder(s), where {listing.skipped} hidden or other entries were"
        f" skipped. Expected class/… or train|val|test/class/… with files ending in {', '.join(sorted(EXTENSIONS))}."
    )


def _has_splits(root: str, paths: list[list[str]]) -> bool:
    """Whether the top-level folders are splits; only folders that hold images count.

    All must be named as splits are. A folder called train among others is a class, of vehicles say, if images lie
    directly in it, as they do in a class and not in a split; any other mixture is an error, for to guess would give
    every image a wrong label.
    """
    folders = {path[0] for path in paths if len(path) > 1}
    splits = {name for name in folders if name.lower() in SPLIT_CODES}
    if not splits or splits == folders:
        return bool(splits)
    if len(splits) == 1 and splits <= {path[0] for path in paths if len(path) == 2}:
        return False
    raise SourceError(
        f"{root}: {_listed(splits)} would be splits, but beside them is {_listed(folders - splits)}. Expected only"
        f" {', '.join(SPLIT_CODES)} at the top, or only classes: move the others away, or name the images in a manifest"
        " (path,label,split)."
    )


def _listed(names: set[str]) -> str:
    shown = sorted(names)[:3]
    more = len(names) - len(shown)
    return ", ".join(map(repr, shown)) + (f" and {more} more" if more else "")
