"""Image folders: ``class/…``, ``train|val|test/class/…``, or unlabelled images."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from frostline.features.errors import SourceError
from frostline.features.images.decoding import extensions
from frostline.features.images.unread import unread_formats
from frostline.features.sources.files import FileSource, absolute
from frostline.features.sources.folders.arrangement import arrange
from frostline.features.sources.folders.listing import Listing, list_images
from frostline.features.sources.kinds import SourceKind
from frostline.shell import as_argument

_CONTAINERS: Final = (".tar", ".zip", ".parquet", ".arrow")
"""Ends of the names of files that may hold images; a pattern names several of them."""


def open_folder(root: str, *, split_folders: Mapping[str, str] | Sequence[str] | None = None) -> FileSource:
    """List an image folder; see `arrangement.arrange` for the meaning of its sub-folders.

    Args:
        root: Path of the folder.
        split_folders: Split of each top-level folder, see `split_names.read_split_folders`; by default their names
            tell, see `layout.find_layout`.

    Raises:
        SourceError: The folder holds no image, a folder can't be read, or the splits are not clear.
    """
    root = absolute(root)
    listing = list_images(root)
    if not listing.paths:
        raise SourceError(nothing_found(root, listing))
    found = arrange(root, listing, split_folders)
    return FileSource(root, found.table, found.changed, folder=root, notes=found.notes)


FOLDER = SourceKind("an image folder", os.path.isdir, open_folder, Path, options=("split_folders",))


def nothing_found(root: str, listing: Listing) -> str:
    """Return a message on a folder in which no image was found."""
    skipped = listing.skipped().describe()
    return "".join(
        [
            f"{root}: no image found in {len(listing.folders)} folder(s)",
            f", where {skipped} were skipped" if skipped else "",
            ". Expected class/… or train|val|test/class/… with files ending in ",
            f"{', '.join(sorted(extensions()))}.",
            *(
                f" If its {extension} files hold the images, name them: {as_argument(f'{root}/*{extension}')}."
                for extension in _CONTAINERS
                if listing.files[extension]
            ),
            *(f" {remark}." for remark in unread_formats(listing.files)),
        ]
    )
