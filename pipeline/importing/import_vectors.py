"""The import stage: make a cache of vectors that were computed elsewhere."""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from frostline.errors import OptionError
from frostline.features.cache.imported.facts import (
    declared_facts,
    describe_imported,
    imported_name,
)
from frostline.features.cache.imported.rows import RowFacts
from frostline.features.cache.imported.vectors import Scratch
from frostline.features.cache.imported.writing import ImportSettings, write_vectors
from frostline.features.errors import SourceError, VectorsError
from frostline.features.spec import FeatureSpec
from frostline.features.table import ImageSource
from frostline.pipeline.importing.importers import (
    NOTHING,
    OPTION_OF,
    FoundVectors,
    Wanted,
    importer_of,
)
from frostline.pipeline.importing.side_files import read_side_file
from frostline.pipeline.inputs.sources import opened_source
from frostline.pipeline.options.sources import SourceOptions
from frostline.pipeline.options.stage import stage
from frostline.pipeline.options.vectors.importing import ImportOptions
from frostline.pipeline.progress import Reporter
from frostline.splits import SPLITS
from frostline.system.files import resolved


@dataclass(frozen=True)
class ImportResult:
    """Result of an import.

    Attributes:
        cache: Path of the cache.
        key: Cache key, the digest of the specification.
        imported: Name of the vectors and what was declared of them.
        rows: Number of rows.
        written: Number of rows written by this call.
        resumed: Number of rows that an interrupted import had already committed.
        failed: Number of rows without a usable vector.
        errors: Reason for each of these, by id.
        layers: Width of each layer, by key.
        dtype: Number format in the cache.
        classes: Names of the classes.
        splits: Number of rows by split name, "" for no split.
        columns: Name in the file of what was taken for id, label, split and group.
        side_columns: Columns that the cache keeps beside the vectors: numbers and short texts.
        unused: What else the file holds.
        images: Source of the images; None without images.
        remarks: Sentences on what is not exactly as it was given.
        seconds: Wall time.
    """

    cache: Path
    key: str
    imported: str
    rows: int
    written: int
    resumed: int
    failed: int
    errors: Mapping[str, str]
    layers: Mapping[str, int]
    dtype: str
    classes: tuple[str, ...]
    splits: Mapping[str, int]
    columns: Mapping[str, str]
    side_columns: tuple[str, ...]
    unused: tuple[str, ...]
    images: str | None
    remarks: tuple[str, ...]
    seconds: float

    @property
    def unchanged(self) -> bool:
        """Whether the cache already held these vectors, so that nothing was written."""
        return self.written == self.resumed == 0


@stage(ImportOptions)
def import_vectors(file: str | Path, options: ImportOptions) -> ImportResult:
    """Make a cache of vectors that were computed elsewhere, from a file.

    Args:
        file: NumPy, HDF5, safetensors, PyTorch, Parquet, Arrow, CSV, TSV or JSON Lines file, see
            `frostline.pipeline.importing.importers.IMPORTERS`. Arrays in memory: `FeatureCache.from_arrays`.
        options: Options of the import.

    Returns:
        Result of the import. If the call is interrupted, repeating it completes the cache.

    Raises:
        OptionError: An option is not valid, or the name is missing.
        VectorsError: The file, or what is said of its rows, is not valid, or too many rows have no usable vector.
        FeaturesError: The path holds another cache, or the images can't be listed.
        OSError: A file can't be read or written.
    """
    started = time.perf_counter()
    path = os.fspath(resolved(file))
    declared = _declared(options.declare)
    folder = resolved(options.out).parent if options.out else resolved(".")
    with ExitStack() as stack:
        status = _status(path)
        with options.report.task("Opening the vectors", None):
            found = _found(_wanted(path, options, Scratch(folder, stack), stack))
        name, facts = _named(path, found, options.name)
        images = _images(options, stack)
        done = write_vectors(
            options.out or _default_path(path, name),
            found.layers,
            _row_facts(found, options),
            ImportSettings(
                name=name,
                declared={**facts, **declared},
                dtype=options.dtype,
                max_bad=options.max_bad,
                overwrite=options.overwrite,
                task=_tasks(options.report),
            ),
            origin=path,
            images=images,
            unchanged=_unchanged(path, status),
        )
        cache = done.cache
    splits = np.bincount(cache.split, minlength=len(SPLITS)).tolist()
    for remark in done.remarks:
        options.report.note(f"{remark}.")
    return ImportResult(
        cache=cache.path,
        key=cache.key,
        imported=describe_imported(cache.spec),
        rows=cache.rows,
        written=done.written,
        resumed=done.resumed,
        failed=len(done.errors),
        errors=done.errors,
        layers={layer.key: layer.dim for layer in cache.layers},
        dtype=cache.spec.dtype,
        classes=cache.classes,
        splits={split: count for split, count in zip(SPLITS, splits, strict=True) if count},
        columns=found.columns,
        side_columns=tuple(cache.columns),
        unused=(*found.unused, *done.lost),
        images=images.root if images is not None else None,
        remarks=done.remarks,
        seconds=time.perf_counter() - started,
    )


def _found(wanted: Wanted) -> FoundVectors:
    """Read a file; what readers of images say of its format is said of vectors here."""
    try:
        return importer_of(wanted.path).read(wanted)
    except SourceError as error:
        raise VectorsError(str(error)) from error


def _wanted(path: str, options: ImportOptions, scratch: Scratch, stack: ExitStack) -> Wanted:
    chosen = {
        role: value for role, option in OPTION_OF.items() if (value := getattr(options, option)) is not None
    }
    return Wanted(path, chosen, options.arrays, options.columns, scratch, stack)


def _row_facts(found: FoundVectors, options: ImportOptions) -> RowFacts:
    """Return what the file tells of its rows, and the files that the options name."""
    told = dict(found.facts)
    columns = {role: name for role, name in found.columns.items() if role != "classes"}
    for role, option in OPTION_OF.items():
        chosen = getattr(options, option)
        if chosen is not None and role not in found.columns and chosen != NOTHING:
            told[role] = read_side_file(role, chosen)
            columns[role] = chosen
    columns.pop("classes", None)
    if told.get("label") is None and options.classes is None:
        told.pop("classes", None)  # names that the file holds, of labels that it lacks or that are not wanted
    return RowFacts(
        ids=told.get("id"),
        labels=told.get("label"),
        split=told.get("split"),
        groups=told.get("group"),
        classes=told.get("classes"),
        columns=columns,
        side=found.side,
    )


def _images(options: ImportOptions, stack: ExitStack) -> ImageSource | None:
    if options.images is None:
        return None
    return stack.enter_context(opened_source(options.images, SourceOptions(report=options.report)))


def _named(path: str, found: FoundVectors, given: str | None) -> tuple[str, dict[str, str]]:
    """Return the name of the vectors, and what an export of Frostline declares of them."""
    told = _specification(found.description)
    if told is None:
        if given is None:
            raise OptionError(
                f"name: {path} does not tell what made its vectors; name the model, for example: --name clip-vit-b32"
            )
        return given, {}
    if told.is_imported:
        return given or imported_name(told), declared_facts(told)
    return given or told.backbone, {"specification": told.digest}


def _specification(description: Mapping[str, Any]) -> FeatureSpec | None:
    """Return the specification in the description of an export; None for another file."""
    from frostline.files.documents import convert

    if "specification" not in description:
        return None
    try:
        return convert(description["specification"], FeatureSpec)
    except ValueError as error:
        raise VectorsError(
            f"the file says that Frostline exported it, and its specification is damaged: {error}"
        ) from error


def _declared(given: Mapping[str, Any] | tuple[str, ...] | None) -> dict[str, str]:
    """Return declared facts, given as a mapping or as texts ``KEY=VALUE``."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return {str(key): str(value) for key, value in given.items()}
    declared: dict[str, str] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key.strip() or key in declared:
            raise OptionError(
                f"declare: got {text!r}, expected KEY=VALUE, such as model=ViT-B/32, each KEY once"
            )
        declared[key.strip()] = value
    return declared


def _default_path(path: str, name: str) -> Path:
    return Path(re.sub(r"[^\w.-]+", "-", f"{Path(path).stem}.{name}") + ".h5")


def _status(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116  # a text
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _unchanged(path: str, before: object) -> Callable[[], None]:
    def check() -> None:
        if _status(path) != before:
            raise VectorsError(
                f"{path}: was changed while it was imported; import it again when it is complete"
            )

    return check


def _tasks(report: Reporter) -> Callable[[str, int], Any]:
    @contextmanager
    def task(name: str, total: int) -> Iterator[Callable[[int], None]]:
        with report.task(name, total) as advance:
            yield advance

    return task
