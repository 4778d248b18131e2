"""Manifests that name images by URLs, and manifests that lie on other machines."""

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Final

import numpy as np

from frostline.features.errors import SourceError
from frostline.features.sources.files import absolute, make_table
from frostline.features.sources.manifests.columns import column_remarks
from frostline.features.sources.manifests.manifest import find_files
from frostline.features.sources.manifests.sheet import Sheet
from frostline.features.sources.remote.access import Access
from frostline.features.sources.remote.source import RemoteSource, opened_cache
from frostline.features.sources.remote.stores.connections import Connections
from frostline.features.sources.remote.stores.store import MISSING, Found
from frostline.features.sources.remote.urls import (
    WEB,
    below,
    check_relative,
    check_scheme,
    folder_of,
    host_of,
    is_url,
    scheme,
    shown,
)
from frostline.features.sources.stats import UNREADABLE, Stat

_MANY: Final = 200  # files of one bucket that are listed rather than asked for one by one
_MORE: Final = 20  # files in a folder for each that is looked for
_NEEDLESS = re.compile(r"(^|/)(\./|\.?$|/)")


def listed_source(
    root: str, sheet: Sheet, folder: str, chosen: Mapping[str, str | None], access: Access
) -> RemoteSource:
    """Return the images of a manifest, of which some are remote.

    Args:
        root: Path or URL of the manifest, without secrets.
        sheet: The manifest.
        folder: Its folder: an absolute path, or a URL with a slash at the end. The paths of a manifest on another
            machine lead to that folder, and nowhere else.
        chosen: Column by role, as the user chose it.
        access: How the images are read.

    Raises:
        OSError: No server answers.
        SourceError: A row is not valid, or none of the images exists.
    """
    rows = _Rows(sheet, folder)
    named = {host_of(folder)} if is_url(folder) else {host_of(url) for url in rows.urls.values()}
    connections = Connections(access, named)
    try:
        remote = dict(zip(rows.urls, look_up(connections, [*rows.urls.values()]), strict=True))
        stats = _stats(root, sheet, rows, remote)
        labels, remarks = sheet.labels()
        table, changed = make_table(
            rows.ids,
            stats,
            labels=labels,
            split=sheet.splits(),
            groups=sheet.groups(),
            columns=sheet.side_columns,
            where=root,
        )
        number = {id_.encode(): row for row, id_ in enumerate(rows.ids)}
        order = [number[id_] for id_ in table.ids.tolist()]
        found = [remote.get(row) for row in order]
        return RemoteSource(
            root,
            table,
            places=[rows.places[row] for row in order],
            names=[rows.names[row] for row in order],
            changed=np.array(
                [
                    local if each is None else each.changed
                    for local, each in zip(changed.tolist(), found, strict=True)
                ],
                np.int64,
            ),
            found=found,
            connections=connections,
            cache=opened_cache(access),
            notes=sheet.notes([*column_remarks(sheet.header, chosen, sheet.taken), *remarks]),
        )
    except BaseException:
        connections.close()
        raise


def _stats(root: str, sheet: Sheet, rows: "_Rows", remote: Mapping[int, Found]) -> list[Stat]:
    """Return the stat of each image. It raises `SourceError` if none of them exists."""
    stats = [rows.files[row] if row in rows.files else remote[row].stat for row in range(len(rows.ids))]
    if all(stat == UNREADABLE for stat in stats):
        raise SourceError(
            f"{root}: none of its {len(stats)} files exists; {sheet.at(0)} points to {rows.names[0]!r}. Expected URLs, or"
            " paths relative to the manifest's folder."
        )
    return stats


class _Rows:
    """Where the images of a manifest are.

    Attributes:
        ids: Id of each image.
        places: URL or absolute path of each image.
        names: The same without secrets.
        urls: URL by row, for the remote images.
        files: Stat by row, for the files of this machine.
    """

    def __init__(self, sheet: Sheet, folder: str) -> None:
        cells = sheet.columns["path"]
        remote = [row for row, cell in enumerate(cells) if is_url(folder) or is_url(cell.strip())]
        self.ids, self.places, self.names = [""] * len(cells), [""] * len(cells), [""] * len(cells)
        self.urls: dict[int, str] = {}
        seen: dict[str, int] = {}
        for row in remote:
            url, id_ = _place(cells[row].strip(), folder, sheet, row)
            if (first := seen.setdefault(shown(url), row)) != row:
                raise SourceError(_twice(sheet, row, first, url, self.urls[first]))
            self.urls[row] = self.places[row] = url
            self.ids[row], self.names[row] = id_, shown(url)
        own = [row for row in range(len(cells)) if row not in self.urls]
        files = find_files(sheet, folder, own) if own else {}
        self.files: dict[int, Stat] = {}
        for row, (id_, stat) in zip(own, files.items(), strict=True):
            self.ids[row], self.files[row] = id_, stat
            self.places[row] = self.names[row] = absolute(
                f"{folder}/{id_}" if not id_.startswith("/") else id_
            )


def _place(cell: str, folder: str, sheet: Sheet, row: int) -> tuple[str, str]:
    """Return the URL and the id of a cell."""
    where = sheet.at(row, "path")
    if is_url(cell):
        check_scheme(cell, where)
        if scheme(cell) == "memory" and scheme(folder) != "memory" and is_url(folder):
            raise SourceError(
                f"{where}: got {cell!r}; a manifest on another machine names no memory of this one"
            )
        return cell, shown(cell)
    if not cell or "\0" in cell:
        raise SourceError(f"{where}: got {cell!r}; expected the path or the URL of an image file")
    check_relative(cell, where)
    path = cell.replace("\\", "/")
    id_ = PurePosixPath(path).as_posix() if _NEEDLESS.search(path) else path
    return below(folder, id_), id_


def _twice(sheet: Sheet, row: int, first: int, url: str, earlier: str) -> str:
    if url != earlier:
        return (
            f"{sheet.at(row, 'path')}: {shown(url)!r} differs from {sheet.unit} {sheet.lines[first]} only in what may be"
            " secret, such as a signature or a token, which is no name of an image; expected each image once"
        )
    return f"{sheet.at(row, 'path')}: {shown(url)!r} is already in {sheet.unit} {sheet.lines[first]}; expected each image once"


def look_up(connections: Connections, urls: Sequence[str]) -> list[Found]:
    """Return what servers say of files, by few requests: many files of one bucket are found by listing their folder.

    Raises:
        OSError: No server answers.
    """
    found: dict[str, Found] = {}
    buckets: dict[tuple[str, str], list[str]] = {}
    for url in urls:
        if scheme(url) not in WEB:
            buckets.setdefault((scheme(url), host_of(url)), []).append(url)
    for group in buckets.values():
        if len(group) >= _MANY:
            folder = _common_folder(group)
            listing = connections.find(folder, _MORE * len(group) + 10_000) if folder else None
            if listing is not None:
                known = dict(listing)
                found |= {url: known.get(url.removeprefix(folder), MISSING) for url in group}
    rest = [url for url in urls if url not in found]
    found |= dict(zip(rest, connections.heads(rest), strict=True))
    return [found[url] for url in urls]


def _common_folder(urls: Sequence[str]) -> str:
    """Return the URL of the folder that holds all files, with a slash at its end; empty for a whole bucket."""
    first, last = min(urls), max(urls)
    same = next((index for index, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    folder = folder_of(first[:same] + ("" if same < len(first) else "/"))
    return folder if folder.count("/") > 3 else ""
