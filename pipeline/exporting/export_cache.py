"""The export stage: write the vectors of a cache in the format of another program."""

import errno
import json
import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frostline.features.cache import FeatureCache
from frostline.features.cache.arrow_rows import COLUMNS, column_names
from frostline.features.cache.selection import DESCRIPTION_FORMAT, Selection
from frostline.features.spec import Layer
from frostline.pipeline.errors import ExportError
from frostline.pipeline.exporting.exporters import EXPORTERS, Export, Exporter
from frostline.pipeline.options.stage import stage
from frostline.pipeline.options.vectors.exporting import ExportOptions
from frostline.system.atomic import replace_file, write_files, write_folder
from frostline.system.files import read_regular, resolved
from frostline.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Iterator

PROVENANCE = "provenance.json"
"""Name of the description in a folder."""

_FORMAT_OPTIONS = ("metric", "shard_rows", "sprite")
_LARGEST_DESCRIPTION = 1 << 30


@dataclass(frozen=True)
class ExportResult:
    """Result of an export.

    Attributes:
        path: The file or folder.
        format: Name of the format.
        description: File with the provenance, if it is one of its own; None if `path` holds it.
        rows: Number of rows written.
        failed: Number of rows left out because they have no features.
        layers: Layers written.
        dtype: Number format of the vectors as written.
        bytes: Size of all files.
        seconds: Wall time.
    """

    path: Path
    format: str
    description: Path | None
    rows: int
    failed: int
    layers: tuple[Layer, ...]
    dtype: str
    bytes: int
    seconds: float


@stage(ExportOptions)
def export_cache(cache: str | Path | FeatureCache, options: ExportOptions) -> ExportResult:
    """Write the vectors of a cache, and what is known of each row, in the format of another program.

    Each row has its number in the cache, the name of the image, the label as text and as number, the declared split,
    the group, the digest of the image file, and the side columns. The specification, the cache key, the version of Frostline and the
    source are written too. Rows without features are left out. The cache is read in blocks, so that the memory does
    not depend on the number of rows. A killed export leaves nothing at its final name.

    Args:
        cache: The cache or its path.
        options: Options of the stage.

    Raises:
        ExportError: The format is not available, has no use for an option, or may not be written to the place.
        FeaturesError: The cache is not usable, or has no such layer or row.
        OSError: The place can't be written.
    """
    started = time.perf_counter()
    exporter = EXPORTERS[options.to]
    _check_options(exporter, options)
    if not isinstance(cache, FeatureCache):
        cache = FeatureCache.open(cache)
    try:
        selection = Selection.of(cache, options.layer or None, split=options.split or None, view=options.view)
    except IndexError as error:
        raise ExportError(f"--view {options.view}: {error}") from None
    if not len(selection):
        what = f" of the split {', '.join(options.split)}" if options.split else ""
        raise ExportError(f"{cache.path}: has no rows{what} with features, so there is nothing to write")
    path = Path(options.out) if options.out is not None else Path(cache.path.stem + exporter.suffix)
    _check_place(path, exporter, cache, options)
    dtype = exporter.dtypes[cache.spec.dtype]
    _report(selection, dtype, options)
    names = column_names(selection.keys, taken=exporter.taken, forbidden=exporter.forbidden)
    known = selection.description() | {
        "dtype": dtype,
        **{name: getattr(options, name) for name in exporter.settings},
    }
    columns = column_names(
        [each.name for each in selection.columns],
        taken=(*exporter.taken, *COLUMNS, *names.values()),
        forbidden=exporter.forbidden,
        prefix="column_",
    )
    for each in known["layers"]:
        each["name"] = names[each["key"]]
    for each in known["columns"]:
        each["name"] = columns[each["key"]]
    text = json.dumps(known)
    total = len(selection) * len(selection.layers)
    with (
        options.report.task("Exporting", total) as advance,
        _opened(path, exporter, text, replace=options.overwrite) as target,
    ):
        exporter.write(Export(selection, names, columns, text, options, advance), target)
    return ExportResult(
        path=path,
        format=options.to,
        description=_place_of_description(path, exporter),
        rows=len(selection),
        failed=selection.failed,
        layers=selection.layers,
        dtype=dtype,
        bytes=_size(path),
        seconds=time.perf_counter() - started,
    )


def _check_options(exporter: Exporter, options: ExportOptions) -> None:
    for name in _FORMAT_OPTIONS:
        if name in options.changes() and name not in exporter.settings:
            having = [each for each in EXPORTERS.builtin if name in EXPORTERS.load(each).settings]
            raise ExportError(
                f"--{name.replace('_', '-')} is an option of {', '.join(having)}, and the format is {options.to}; leave"
                " it out"
            )


def _check_place(path: Path, exporter: Exporter, cache: FeatureCache, options: ExportOptions) -> None:
    """Refuse a place at which something is that would be lost."""
    side = _place_of_description(path, exporter)
    for place in (path, *([side] if side and not exporter.folder else [])):
        if resolved(place) == cache.path:
            raise ExportError(f"{place}: is the cache itself; name another place with --out")
        if not os.path.lexists(place):
            continue
        if not options.overwrite:
            raise ExportError(
                f"{place}: exists already; pass --overwrite to replace it, or name another place with --out"
            )
        if place.is_dir() and not exporter.folder:
            raise ExportError(f"{place}: is a folder, and {options.to} is one file; name a file with --out")
    if exporter.folder and os.path.lexists(path) and not _is_export(path):
        raise ExportError(
            f"{path}: is no folder that an export wrote (it has no {PROVENANCE} of Frostline), so it is not replaced;"
            " name another place with --out"
        )


def _is_export(path: Path) -> bool:
    """Return whether a folder was written by an export; only such a folder is deleted."""
    if path.is_symlink() or not path.is_dir():
        return False
    try:
        found = json.loads(read_regular(path / PROVENANCE, _LARGEST_DESCRIPTION))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("format") == DESCRIPTION_FORMAT


def _report(selection: Selection, dtype: str, options: ExportOptions) -> None:
    """Say what is not written as it is in the cache."""
    stored = selection.cache.spec.dtype
    if selection.failed:
        options.report.warn(
            f"Left out: {count_of(selection.failed, 'row')} without features. The column row tells which rows are written."
        )
    if stored != dtype:
        why = "has no bfloat16" if stored == "bfloat16" and dtype == "float32" else f"holds {dtype} alone"
        options.report.note(
            f"The vectors are {stored} in the cache and are written as {dtype}: the format {why}."
        )


@contextmanager
def _opened(path: Path, exporter: Exporter, description: str, *, replace: bool) -> "Iterator[Any]":
    """Yield the file or folder to write, with the description in its place."""
    if exporter.folder:
        with write_folder(path, replace=replace) as folder:
            yield folder
            replace_file(folder / PROVENANCE, description.encode())
        return
    side = _place_of_description(path, exporter)
    with write_files(*([side] if side else []), path) as (*sides, file):
        for described in sides:
            described.write(description.encode())
        yield file
        _check_still_free(path, replace=replace)


def _check_still_free(path: Path, *, replace: bool) -> None:
    """Refuse to replace what another program has written meanwhile."""
    if not replace and os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


def _place_of_description(path: Path, exporter: Exporter) -> Path | None:
    """Return the file with the description; None if the export itself holds it."""
    if exporter.folder:
        return path / PROVENANCE
    return None if exporter.holds_description else path.with_name(f"{path.name}.json")


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.stat().st_size
    return sum((Path(folder) / name).stat().st_size for folder, _, names in os.walk(path) for name in names)
