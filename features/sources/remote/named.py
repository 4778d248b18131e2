"""Images that are named one by one, of which some are remote."""

from pathlib import Path

import numpy as np

from frostline.features.errors import SourceError
from frostline.features.images.decoding import extensions
from frostline.features.images.unread import unread_formats
from frostline.features.notes import SourceNotes
from frostline.features.sources.folders.listing import Listing, list_names
from frostline.features.sources.remote.access import Access
from frostline.features.sources.remote.source import RemoteSource, opened_cache
from frostline.features.sources.remote.stores.connections import Connections
from frostline.features.sources.remote.stores.store import UNKNOWN, Found
from frostline.features.sources.remote.urls import (
    WEB,
    as_folder,
    below,
    check_scheme,
    host_of,
    is_url,
    scheme,
    shown,
    suffix_of,
)
from frostline.features.table import ImageTable


def named_source(paths: list[str], access: Access) -> RemoteSource:
    """Return the named images, and those in the named folders, in the order given; for `predict`, as `PathSource`.

    A URL of an object store names a folder if it ends in a slash, or if it has not the end of an image and something lies
    below it.

    Args:
        paths: URLs, and paths of this machine.
        access: How the images are read.

    Raises:
        OSError: A folder can't be listed.
        SourceError: A path doesn't exist, or a folder has no image in it.
    """
    from frostline.features.sources.opening import open_paths

    connections = Connections(access, {host_of(path) for path in paths if is_url(path)})
    places: list[str] = []
    names: list[str] = []
    whole = Listing()
    remarks: tuple[str, ...] = ()
    try:
        for path in paths:
            if is_url(path):
                found = _below(path, connections, whole)
                places += found
                names += map(shown, found)
            else:
                local = open_paths([path])
                places += [str(local.path(row)) for row in range(len(local.table))]
                names = [*names, *places[len(names) :]]
                remarks += local.notes.remarks
    except BaseException:
        connections.close()
        raise
    n = len(places)
    table = ImageTable(
        ids=np.array([name.encode("utf-8", "surrogateescape") for name in names], np.bytes_),
        labels=np.full(n, -1, np.int64),
        classes=(),
        split=np.zeros(n, np.uint8),
        groups=np.zeros(n, "S1"),
        stamps=np.zeros((n, 16), np.uint8),
    )
    return RemoteSource(
        str(Path.cwd()),
        table,
        places=places,
        names=names,
        changed=np.zeros(n, np.int64),
        found=[Found(0, UNKNOWN, 0) if is_url(place) else None for place in places],
        connections=connections,
        cache=opened_cache(access),
        notes=SourceNotes(skipped=whole.skipped(), remarks=(*unread_formats(whole.files), *remarks)),
    )


def _below(url: str, connections: Connections, whole: Listing) -> list[str]:
    """Return the URLs of the images that a URL names."""
    check_scheme(url)
    if scheme(url) in WEB or (suffix_of(url) in extensions()):
        return [url]
    files = dict(connections.find(as_folder(url)) or [])
    if not files and not url.endswith("/"):
        return [url]
    names = [name for name in files if name]
    listing = list_names(names, [files[name].stat for name in names])
    whole.add(listing)
    if not listing.paths:
        raise SourceError(
            ". ".join([f"{shown(url)}: no image found in this folder", *unread_formats(listing.files)])
        )
    return [below(as_folder(url), name) for name in sorted(listing.paths)]
