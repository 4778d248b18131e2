"""Manifests of some of the images of a cache, which extract accepts."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.csv_cells import CsvWriter
from frostline.errors import OptionError
from frostline.features.sources import find_kind
from frostline.features.table import ImageSource
from frostline.pipeline.errors import RunError
from frostline.pipeline.exploring.outputs import Outputs, check_apart
from frostline.pipeline.inputs.joined_caches import AnyCache
from frostline.splits import SPLITS
from frostline.system.atomic import write_text_file
from frostline.system.files import resolved


def listed_outputs(
    cache: AnyCache,
    out: str | Path | None,
    listing: str | Path | None,
    source: ImageSource | None,
    name: str,
) -> tuple[Outputs, Path | None, Path | None]:
    """Return the sheets, the list and the manifest to write for a value of ``--out``, whose table is a manifest.

    Args:
        cache: The cache.
        out: Path of a manifest, ``.csv``, of a sheet, or of a folder for all of them and the list; None for nothing.
        listing: Path of the list; None for that in a folder.
        source: Source of the images; None for the one that the cache names.
        name: Name of the list and the sheets in a folder, without an ending.

    Raises:
        OptionError: A path ends like another kind of file, or is that of the cache, its manifest, one of its images or
            another output.
        RunError: The images are not files of their own.
    """
    outputs = Outputs.at(out, name)
    listed = Path(listing) if listing else None
    if listed and listed.suffix.lower() != ".csv":
        raise OptionError(f"list: got {str(listing)!r}, expected a file ending in .csv")
    check_apart(cache, outputs, list=listed)
    manifest = outputs.table
    if manifest and outputs.page:  # a folder
        listed = listed or manifest
        manifest = manifest.with_name("manifest.csv")
    if manifest:
        check_apart(cache, Outputs(manifest, outputs.picture, outputs.page), list=listed)
        if cache.rows and (obstacle := _obstacle(cache, source)):
            raise RunError(obstacle)
    return Outputs(None, outputs.picture, outputs.page), listed, manifest


def _obstacle(cache: AnyCache, source: ImageSource | None) -> str:
    """Return why no manifest can name the images; empty if one can."""
    if source is not None:
        named = len(source.table) > 0 and source.path(0) is not None
    else:
        kind = find_kind(cache.source)
        locate = kind.locate if kind else None
        named = locate is not None and locate(cache.source, str(cache.ids[0])) is not None
    if named:
        return ""
    return (
        f"{cache.source}: its images can't be named in a manifest, because they are not files of their own here, nor named by"
        " URLs. Write the list of images with --list instead."
    )


def write_manifest(path: Path, cache: AnyCache, rows: NDArray[np.int64], source: ImageSource | None) -> None:
    """Write a manifest with the path or URL, label, split, group and side columns of some rows.

    Paths are relative to the manifest's folder if they are below it, and absolute otherwise.
    """
    locate = _locator(cache, source)
    beside = {"group": cache.groups} if (cache.groups != "").any() else {}
    beside |= cache.columns
    folder = resolved(path).parent
    with write_text_file(path) as file:
        writer = CsvWriter(file, ["path", "label", "split", *beside])
        for row in rows.tolist():
            label = int(cache.labels[row])
            place = locate(str(cache.ids[row]))
            values = [
                _written(place, folder),
                cache.classes[label] if label >= 0 else "",
                SPLITS[cache.split[row]],
            ]
            writer.write([*values, *(_cell(cells[row].item()) for cells in beside.values())])


def _cell(value: str | float) -> str | float:
    """Return the cell of a side column; a missing number is empty."""
    return "" if value != value else value  # noqa: PLR0124


def _written(place: Path | str, folder: Path) -> str:
    """Return a URL, or a path with forward slashes, which is relative if it is below the folder."""
    if isinstance(place, str):
        return place
    return (place.relative_to(folder) if place.is_relative_to(folder) else place).as_posix()


def _locator(cache: AnyCache, source: ImageSource | None) -> Any:
    """Return the function that returns the absolute path or the URL of an image, given its id."""
    if source is not None:
        rows = {os.fsdecode(name): row for row, name in enumerate(source.table.ids.tolist())}
        return lambda name: resolved(source.path(rows[name]) or Path(name))
    kind = find_kind(cache.source)
    if kind is None or kind.locate is None:
        raise RunError(_obstacle(cache, source))
    locate = kind.locate
    return lambda name: locate(cache.source, name)
