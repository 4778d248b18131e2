"""URLs as image sources: folders of object stores, manifests, and files that hold images."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from frostline.features.errors import SourceError
from frostline.features.images.decoding import extensions
from frostline.features.sources.folders.arrangement import arrange
from frostline.features.sources.folders.folder import nothing_found
from frostline.features.sources.folders.listing import list_names
from frostline.features.sources.kinds import SourceKind
from frostline.features.sources.manifests.manifest import MANIFEST, read_sheet
from frostline.features.sources.opening import check_options, find_kind, open_named
from frostline.features.sources.remote.access import Access
from frostline.features.sources.remote.copies import CopiedSource, copied, named_files, translated
from frostline.features.sources.remote.listed import listed_source
from frostline.features.sources.remote.source import RemoteSource, opened_cache
from frostline.features.sources.remote.stores.connections import Connections
from frostline.features.sources.remote.urls import (
    FILES,
    LISTS,
    as_folder,
    below,
    check_scheme,
    folder_of,
    host_of,
    is_url,
    key_of,
    scheme,
    shown,
    suffix_of,
    top_of,
)
from frostline.features.table import ImageSource


def open_remote(data: str, *, access: Access | None = None, **options: Any) -> ImageSource:
    """List the images that a URL names.

    Args:
        data: URL of a folder of an object store; or of a manifest, an archive, a table or an array; or a pattern of the
            URLs of archives or tables.
        access: How the images are read.
        options: Options of `open_source`.

    Raises:
        OSError: The server can't be reached, or denies access.
        SourceError: There is nothing at the URL, or no images; or it has no use for an option.
    """
    check_scheme(data)
    if not host_of(data) and scheme(data) != "memory":
        raise SourceError(f"{data}: names no server or bucket; expected a URL such as s3://BUCKET/photos/")
    access = access or Access()
    suffix = suffix_of(data)
    connections = Connections(access, {host_of(data)})
    if suffix in extensions():
        raise SourceError(
            f"{shown(data)}: is a single image; expected a folder, a manifest, or a file that holds several images"
        )
    try:
        if suffix in FILES:
            return _open_file(data, connections, access, options)
        return _open_folder(data, connections, access, **_options_of_folder(data, options))
    except BaseException:
        connections.close()
        raise


def _options_of_folder(data: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
    check_options(shown(data), "a folder", ("split_folders",), options)
    return options


def _open_folder(
    data: str,
    connections: Connections,
    access: Access,
    split_folders: Mapping[str, str] | Sequence[str] | None = None,
) -> RemoteSource:
    """List the images below a folder by the rules of folders on this machine."""
    folder, root = as_folder(data), shown(as_folder(data))
    files = dict(connections.find(folder) or [])
    listing = list_names(
        [name for name in files if name], [found.stat for name, found in files.items() if name]
    )
    if not listing.paths:
        raise SourceError(nothing_found(root.rstrip("/"), listing))
    told = arrange(root.rstrip("/"), listing, split_folders)
    ids = [id_.decode() for id_ in told.table.ids.tolist()]
    found = [files[id_] for id_ in ids]
    return RemoteSource(
        root,
        told.table,
        places=[below(folder, id_) for id_ in ids],
        names=[root + id_ for id_ in ids],
        changed=np.array([each.changed for each in found], np.int64),
        found=found,
        connections=connections,
        cache=opened_cache(access),
        notes=told.notes,
    )


def _open_file(
    data: str, connections: Connections, access: Access, options: Mapping[str, Any]
) -> ImageSource:
    """Copy a file, or those of a pattern, and list the images in the copies or those that it names."""
    root = shown(data)
    urls = named_files(connections, data)
    # A manifest is read once, and not kept. Of a Parquet file only its content tells whether it is one.
    passing = suffix_of(urls[0]) in LISTS and suffix_of(urls[0]) != ".parquet"
    copies, paths, found = copied(connections, urls, Access() if passing else access)
    local = paths[urls[0]] if len(urls) == 1 else f"{copies.folder}/{key_of(data)}"
    try:
        if find_kind(local) is not MANIFEST:
            source = CopiedSource(open_named(local, options), root, found, copies)
            connections.close()
            return source
        check_options(root, MANIFEST.expects, MANIFEST.options, options)
        chosen = {name.removesuffix("_column"): value for name, value in options.items()}
        sheet = replace(read_sheet(local, chosen), file=root)
    except SourceError as error:
        copies.close()
        raise SourceError(translated(str(error), copies.folder, top_of(root))) from error
    except BaseException:
        copies.close()
        raise
    copies.close()
    connections.close()
    return listed_source(root, sheet, folder_of(data), chosen, access)


def locate(root: str, id_: str) -> str | None:
    """Return the URL of an image, given the root of its source and its id; None for one in a file that is copied."""
    suffix = suffix_of(root)
    if suffix not in FILES:
        return below(as_folder(root), id_)
    if suffix not in LISTS or suffix == ".parquet":  # which may hold the images
        return None
    return id_ if is_url(id_) else below(folder_of(root), id_)


REMOTE = SourceKind(
    "a URL (s3://, gs://, hf://, https://, http://)",
    is_url,
    open_remote,
    locate,
    options=("split_folders", "path_column", "label_column", "split_column", "group_column", "access"),
)
