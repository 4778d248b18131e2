"""Writing of imported vectors as a cache: one pass for their digest, one for the file."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from frostline.features.cache.imported.facts import check_declared, check_name, imported_spec, layer_of
from frostline.features.cache.imported.numbers import Conversion, stored_dtype
from frostline.features.cache.imported.rows import RowFacts, RowTable, joined_with_images, row_table
from frostline.features.cache.imported.vectors import Vectors, rows_per_block
from frostline.features.cache.opening import check_apart, open_writer
from frostline.features.cache.reader import FeatureCache
from frostline.features.cache.writing.reuse import Contents
from frostline.features.cache.writing.writer import CacheWriter
from frostline.features.content import CONTENT_BYTES
from frostline.features.errors import VectorsError
from frostline.features.notes import SourceNotes
from frostline.features.spec import Dtype, Layer
from frostline.features.table import FAILED, OK, ImageSource
from frostline.system.files import resolved

if TYPE_CHECKING:
    from frostline.features.table import ImageTable

Task = Callable[[str, int], AbstractContextManager[Callable[[int], object]]]
"""Function that reports the progress of so many steps of a task with a name."""

_PERSON: Final = b"frostline vector"
_SHOWN = 5


def no_task(_name: str, _total: int) -> AbstractContextManager[Callable[[int], object]]:
    """Report no progress; see `Task`."""
    return nullcontext(lambda _done: None)


@dataclass(frozen=True)
class ImportSettings:
    """How vectors become a cache.

    Attributes:
        name: Name of the vectors.
        declared: What the user says of their origin.
        dtype: Number format in the file; None for that of the vectors, or float32.
        max_bad: Largest share of rows without a usable vector.
        overwrite: Whether to replace a cache of other vectors at the path.
        task: Receiver of progress.
    """

    name: str
    declared: Mapping[str, str]
    dtype: Dtype | None = None
    max_bad: float = 0.01
    overwrite: bool = False
    task: Task = no_task


@dataclass(frozen=True)
class Imported:
    """A cache of imported vectors, and the work that completed it.

    Attributes:
        cache: The cache.
        written: Number of rows written by this call.
        resumed: Number of rows that an interrupted import had already committed.
        errors: Reason for each row without a usable vector, by id.
        lost: Names of the side columns that can't be kept.
        remarks: Sentences on what is not exactly as it was given.
    """

    cache: FeatureCache
    written: int
    resumed: int
    errors: Mapping[str, str]
    lost: tuple[str, ...]
    remarks: tuple[str, ...]


def write_vectors(
    path: str | Path,
    layers: Mapping[str, Vectors],
    facts: RowFacts,
    settings: ImportSettings,
    *,
    origin: str,
    images: ImageSource | None = None,
    unchanged: Callable[[], None] = lambda: None,
) -> Imported:
    """Write vectors as a cache. If the call is interrupted, repeating it completes the file.

    Args:
        path: Path of the cache.
        layers: (n, d) vectors by key of the layer.
        facts: What is known of the rows.
        settings: How to write them.
        origin: Where the vectors came from, such as the absolute path of a file.
        images: Images of the rows, by the same ids.
        unchanged: Function that raises an error if the vectors have changed since they were opened.

    Raises:
        VectorsError: The vectors, or what is said of them, are not valid, or too many rows have no usable vector.
        FeaturesError: The path holds another cache.
        OSError: A file can't be read or written.
    """
    check_name(settings.name)
    check_apart(resolved(path), origin)
    declared = check_declared(settings.declared)
    given = tuple(layer_of(key, vectors.shape[1]) for key, vectors in layers.items())
    counts = {key: vectors.shape[0] for key, vectors in layers.items()}
    if len({*counts.values()}) != 1:
        told = ", ".join(f"{count} of {key}" for key, count in counts.items())
        raise VectorsError(f"{origin}: got {told or 'no vectors'}, expected one vector of each layer per row")
    rows = row_table(facts, next(iter(counts.values())), origin)
    if images is not None:
        rows = joined_with_images(rows, images.table, images.root, origin)
    dtype = settings.dtype or stored_dtype({vectors.dtype for vectors in layers.values()})
    read = _Read.of(rows, layers, given, dtype, settings.task)
    errors = {rows.table.ids[row].decode(): reason for row, reason in sorted(read.errors.items())}
    spec = imported_spec(
        settings.name,
        given,
        dtype=dtype,
        declared=declared,
        content="vectors" if images is None else "images",
        numbers=read.digest,
    )
    remarks = (*rows.remarks, *(conversion.remark for conversion in read.conversions if conversion.remark))
    columns = {"id": "ids"} if facts.ids is not None else {}
    notes = SourceNotes(columns={**columns, **facts.columns}, unused_columns=rows.lost, remarks=remarks)
    if images is not None:
        read = read.with_images(images, rows.table, settings.task)
        errors = {rows.table.ids[row].decode(): reason for row, reason in sorted(read.errors.items())}
        notes = replace(notes, options=images.notes.options)
    _check_bad(errors, len(rows.table), settings.max_bad, origin)
    source = (
        _Rows(origin, rows.table, notes) if images is None else _Rows(images.root, rows.table, notes, images)
    )
    opened = open_writer(path, spec, source, overwrite=settings.overwrite)
    if isinstance(opened, FeatureCache):
        return Imported(opened, 0, 0, errors, rows.lost, remarks)
    with opened as writer:
        written, resumed = len(writer.todo), writer.resumed
        _fill(writer, read, rows, layers, settings.task)
        unchanged()
        return Imported(writer.finish(), written, resumed, errors, rows.lost, remarks)


class _Rows(ImageSource):
    """Rows of vectors, with their images if there are some."""

    def __init__(
        self, root: str, table: "ImageTable", notes: SourceNotes, images: ImageSource | None = None
    ) -> None:
        self.root, self.table, self.notes, self._images = root, table, notes, images

    def read(self, row: int) -> tuple[bytes, bytes]:
        if self._images is None:
            raise OSError(f"{self.table.ids[row]!r}: the vector was imported without its image")
        return self._images.read(row)

    def unsettled(self, since: int) -> NDArray[np.bool_]:
        return super().unsettled(since) if self._images is None else self._images.unsettled(since)


@dataclass(frozen=True, eq=False)
class _Read:
    """What the first pass over the vectors tells.

    Attributes:
        digest: Digest of the ids and vectors of all rows.
        content: (n, 16) uint8 digests of the vectors, or of the images; zero for unusable ones.
        stamps: (n, 16) uint8 stamps of the images.
        errors: Reason for each row without a usable vector.
        conversions: Conversion of each layer.
    """

    digest: str
    content: NDArray[np.uint8]
    stamps: NDArray[np.uint8]
    errors: Mapping[int, str]
    conversions: tuple[Conversion, ...]

    @classmethod
    def of(
        cls,
        rows: RowTable,
        layers: Mapping[str, Vectors],
        given: tuple[Layer, ...],
        dtype: Dtype,
        task: Task,
    ) -> Self:
        conversions = tuple(Conversion(layer.key, dtype) for layer in given)
        hashes = [hashlib.blake2b(f"{layer.key}:{layer.dim};".encode()) for layer in given]
        content = np.zeros((len(rows.table), CONTENT_BYTES), np.uint8)
        errors: dict[int, str] = {}
        with task("Reading the vectors", len(rows.table)) as advance:
            for start, blocks, reasons in _blocks(
                np.arange(len(rows.table)), rows.order, layers, conversions
            ):
                for state, block in zip(hashes, blocks, strict=True):
                    state.update(np.ascontiguousarray(block, "<f4").reshape(-1).view(np.uint8).data)
                whole = np.concatenate(blocks, axis=1) if len(blocks) > 1 else blocks[0]
                for index, vector in enumerate(np.ascontiguousarray(whole, "<f4")):
                    if index not in reasons:
                        content[start + index] = np.frombuffer(_vector_digest(vector), np.uint8)
                errors |= {start + index: reason for index, reason in reasons.items()}
                advance(len(whole))
        ids = hashlib.blake2b(
            str(rows.table.ids.dtype).encode() + np.ascontiguousarray(rows.table.ids).tobytes()
        )
        whole_hash = hashlib.sha256(b"".join(state.digest() for state in (ids, *hashes)))
        return cls(whole_hash.hexdigest(), content, rows.table.stamps.copy(), errors, conversions)

    def with_images(self, images: ImageSource, table: "ImageTable", task: Task) -> "_Read":
        """Return the same with the digests of the images in place of those of the vectors."""
        contents = Contents(images)
        content = np.zeros_like(self.content)
        errors = dict(self.errors)
        with task("Reading the images", len(table)) as advance:
            for start in range(0, len(table), 1024):
                rows = np.arange(start, min(start + 1024, len(table)))
                content[rows] = contents.of(rows)
                advance(len(rows))
        for row in np.flatnonzero(~content.any(axis=1)).tolist():
            errors.setdefault(row, "the image of the vector can't be read")
        return replace(self, content=content, stamps=contents.stamps_of(np.arange(len(table))), errors=errors)


def _vector_digest(vector: NDArray[np.float32]) -> bytes:
    """Return the digest of a vector, which is that of no image file: the hash is personalised."""
    return hashlib.blake2b(
        vector.data, digest_size=CONTENT_BYTES, person=_PERSON, usedforsecurity=False
    ).digest()


def _blocks(
    rows: NDArray[np.int64],
    order: NDArray[np.int64],
    layers: Mapping[str, Vectors],
    conversions: tuple[Conversion, ...],
) -> Iterator[tuple[int, list[NDArray[np.float32]], dict[int, str]]]:
    """Yield blocks of rows: the position of the first, the float32 vectors of each layer, and reasons by position."""
    step = rows_per_block(sum(vectors.shape[1] for vectors in layers.values()))
    for start in range(0, len(rows), step):
        taken = order[rows[start : start + step]]
        blocks, reasons = [], dict[int, str]()
        for vectors, conversion in zip(layers.values(), conversions, strict=True):
            block, found = conversion.convert(vectors.take(taken))
            blocks.append(block)
            reasons = {**found, **reasons}
        yield start, blocks, reasons


def _check_bad(errors: Mapping[str, str], count: int, max_bad: float, origin: str) -> None:
    if len(errors) <= max_bad * count:
        return
    shown = "".join(f"\n  {name}: {reason}" for name, reason in list(errors.items())[:_SHOWN])
    more = f"\n  ... and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
    raise VectorsError(
        f"{origin}: {len(errors)} of {count} rows have no usable vector, more than the allowed {max_bad:.1%}; nothing was"
        f" written:{shown}{more}\nRepair them, or raise --max-bad: they are then kept as failed rows, with the reason."
    )


def _fill(
    writer: CacheWriter, read: _Read, rows: RowTable, layers: Mapping[str, Vectors], task: Task
) -> None:
    again = tuple(Conversion(each.key, each.dtype) for each in read.conversions)
    todo = writer.todo
    with task("Writing", writer.rows) as advance:
        advance(writer.rows - len(todo))
        for start, blocks, _ in _blocks(todo, rows.order, layers, again):
            at = todo[start : start + len(blocks[0])]
            errors = [read.errors.get(row, "") for row in at.tolist()]
            writer.put(
                at,
                {each.key: block[:, None, :] for each, block in zip(again, blocks, strict=True)},
                content=read.content[at],
                stamps=read.stamps[at],
                status=np.where([bool(error) for error in errors], FAILED, OK).astype(np.uint8),
                errors=errors,
            )
            advance(len(at))


def import_arrays(
    path: str | Path,
    X: Any,
    facts: RowFacts,
    settings: ImportSettings,
    *,
    columns: Mapping[str, Any] | Sequence[str] = (),
    images: Any = None,
) -> FeatureCache:
    """Write arrays of a script as a cache; see `FeatureCache.from_arrays`."""
    from frostline.features.cache.imported.frames import split_frame
    from frostline.features.cache.imported.vectors import Scratch, as_vectors
    from frostline.features.sources import images_source, open_source
    from frostline.system.files import resolved

    with ExitStack() as stack:
        scratch = Scratch(resolved(path).parent, stack)
        X, facts = split_frame(X, facts, columns)
        layers = as_vectors(X, scratch)
        source: ImageSource | None = None
        if isinstance(images, str | Path):
            source = open_source(images)
            stack.callback(source.close)
        elif images is not None:
            source = images if hasattr(images, "table") else images_source(images)
        return write_vectors(
            path, layers, facts, settings, origin=f"memory:{settings.name}", images=source
        ).cache
