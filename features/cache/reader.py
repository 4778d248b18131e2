"""Reading of finished caches: ids, labels, splits and features, memory-mapped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import numpy as np
import xxhash
from numpy.typing import NDArray

from frostline.features.cache.file.encoding import decode
from frostline.features.cache.file.layout import METADATA, Array, feature_name
from frostline.features.cache.file.mapped import MappedFile
from frostline.features.cache.file.part import Part
from frostline.features.cache.file.partial import finished_name, partial_path
from frostline.features.cache.frames import Frames
from frostline.features.cache.imported.facts import describe_imported, remedy
from frostline.features.errors import CacheFormatError, CacheMismatchError, ChecksumError, LayerError
from frostline.features.fidelity import Check
from frostline.features.notes import SourceNotes
from frostline.features.spec import Dtype, FeatureSpec, Layer
from frostline.features.table import FAILED, OK, ImageTable
from frostline.shell import shell_command
from frostline.splits import SPLITS
from frostline.system.files import resolved
from frostline.wording import count_of

if TYPE_CHECKING:
    import torch
    from numpy.typing import ArrayLike

    from frostline.features.cache.search import NearestRows
    from frostline.numerics.neighbors import Metric


@dataclass(frozen=True)
class Timing:
    """Time and energy for computing a cache's features, over all contributing runs.

    Attributes:
        images: Number of rows with a known time. Rows copied from an earlier cache keep their time.
        seconds: Wall time of decoding and forward passes for these rows, summed over all processes of merged parts.
        machine: Description of the machine of the first run; empty if unknown.
        joules: Energy per image of the processors and the GPU; None if the machine doesn't report it.
    """

    images: int
    seconds: float
    machine: str
    joules: float | None = None

    @property
    def images_per_second(self) -> float:
        """Images per second of a single process."""
        return self.images / self.seconds


@dataclass(frozen=True)
class VerifyReport:
    """Result of verifying every byte of a cache.

    Attributes:
        rows: Number of images.
        blocks: Number of blocks, which are ranges of rows with common checksums.
        damaged: (dataset, first row, last row) of every damaged range. The dataset is a layer's key, "metadata"
            (content, stamps, status, errors, and since version 2 of the file times and energies) or "table" (ids, labels,
            splits, groups, classes and side columns).
    """

    rows: int
    blocks: int
    damaged: tuple[tuple[str, int, int], ...]

    @property
    def ok(self) -> bool:
        """Whether no damage was found."""
        return not self.damaged


@dataclass(frozen=True)
class CacheInfo:
    """Summary of a cache.

    Attributes:
        path: Path of the file.
        bytes: Size of the file.
        rows: Number of images.
        ok: Number of images with features.
        failed: Number of images without features.
        classes: Names of the classes.
        splits: Number of images by split name, "" for no split.
        layers: Stored layers.
        dtype: Number format of the features.
        key: Digest of the specification.
        spec: Specification of the features.
        check: Comparison with eager fp32; None if the features were not compared.
        timing: Time and energy of the computation; None if unknown.
        created: Creation time.
        source: Folder or manifest of the images.
        columns: Type of each side column by name: ``number`` or ``text``.
        notes: How the images were listed when the file was created, and which entries were skipped.
        weights: Weights that the user chose for the backbone; None for its own.
        weights_note: How the weights were read and what was assumed; None for nothing to say.
        part: Part of a cache that the file holds, e.g. "2/4"; None for a whole cache.
        imported: Name of imported vectors and what was declared of them; None for features computed by Frostline.
    """

    path: Path
    bytes: int
    rows: int
    ok: int
    failed: int
    classes: tuple[str, ...]
    splits: Mapping[str, int]
    layers: tuple[Layer, ...]
    dtype: str
    key: str
    spec: FeatureSpec
    check: Check | None
    timing: Timing | None
    created: datetime
    source: str
    columns: Mapping[str, str]
    notes: SourceNotes
    weights: str | None
    weights_note: str | None
    part: str | None
    imported: str | None = None


class FeatureCache(Frames):
    """Finished cache file, memory-mapped. Open it with `FeatureCache.open`.

    Opening reads no features. Arrays are views of the file. They use no additional memory, can be used in any
    number of processes, forked or spawned, and stay valid when the file is replaced or deleted. Checksums are
    verified when a layer or the metadata is first used in a process.
    """

    def __init__(self, file: MappedFile) -> None:
        self._path = file.path
        self._mapped: MappedFile | None = file

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open a finished cache.

        Raises:
            OSError: The file can't be read.
            CacheFormatError: The file is not a valid finished cache of this version.
            ChecksumError: The ids, labels, splits, groups or classes are damaged.
        """
        path = resolved(path)
        if finished_name(path.name) != path.name:
            raise CacheFormatError(
                f"{path}: is an unfinished cache; run the same extract again, which resumes it, and then open "
                f"{finished_name(path.name)}"
            )
        try:
            file = MappedFile.open(path)
        except FileNotFoundError as error:
            if partial_path(path).exists():
                error.add_note(
                    f"Found the unfinished cache {partial_path(path).name}; run the same extract again to finish it"
                )
            else:
                error.add_note(
                    "If the cache was moved, name its new place; to compute one: "
                    + shell_command("frostline", "extract", "DATA", "--cache", Path(path.name))
                )
            raise
        if not file.committed().all():
            raise CacheFormatError(
                f"{path}: is an unfinished cache with the name of a finished one; rename it to {path.name}.partial and "
                "run the same extract again, which resumes it"
            )
        return cls(file)

    @classmethod
    def from_arrays(
        cls,
        path: str | Path,
        X: Any,
        *,
        name: str,
        ids: Any = None,
        labels: Any = None,
        split: Any = None,
        groups: Any = None,
        classes: Sequence[str] | None = None,
        columns: Mapping[str, Any] | Sequence[str] | None = None,
        declared: Mapping[str, str] | None = None,
        images: Any = None,
        dtype: Dtype | None = None,
        max_bad: float = 0.01,
        overwrite: bool = False,
    ) -> "FeatureCache":
        """Write vectors that were computed elsewhere as a cache, and open it.

        The specification of the cache says that they are imported, see `frostline.features.cache.imported.facts`. If the
        call is interrupted, repeating it completes the file.

        Args:
            path: Path of the cache.
            X: (n, d) array, tensor or data frame of numbers; mapping of layer to such arrays; or iterable of blocks, (k, d)
                arrays or mappings of layer to such arrays, for data larger than memory. The layer of an array without a
                name is ``embedding``. Integers are refused where the number format of the file does not hold them exactly.
            name: Name of the vectors, such as that of the model. Caches with other names are never used together.
            ids: Names of the rows, unique; those of the images if `images` are given. By default they are numbered. Of a
                data frame, `ids`, `labels`, `split` and `groups` may be the name of a column.
            labels: Label of each row as text or integer, "" or None for unknown.
            split: Split of each row: train, val, test, or "" for none.
            groups: Group of each row, "" for none.
            classes: Names of the classes that integer labels are the numbers of; -1 is then no label.
            columns: Side columns, which heads can use beside the vectors: numbers or texts of each row, by name; of a data
                frame also a list of names of its columns.
            declared: What is known of the origin of the vectors, such as ``{"model": "ViT-B/32"}``. Caches with other
                declared facts are never used together.
            images: Images of the rows, by the same ids: a path, an image source, or images. Without them, equal vectors
                count as equal images.
            dtype: Number format in the file: float32, float16 or bfloat16. By default float16 or bfloat16 if the vectors are
                of it, else float32.
            max_bad: Largest share of rows whose vector is not finite, or overflows the number format. They are kept as
                failed rows, with the reason.
            overwrite: Whether to replace a cache of other vectors or features at the path.

        Raises:
            VectorsError: The vectors, or what is said of their rows, are not valid, or too many rows have no usable vector.
            FeaturesError: The path holds another cache, or the images can't be listed.
            OSError: A file can't be read or written.
        """
        from frostline.features.cache.imported.rows import RowFacts
        from frostline.features.cache.imported.writing import ImportSettings, import_arrays

        facts = RowFacts(ids, labels, split, groups, classes)
        settings = ImportSettings(name, declared or {}, dtype, max_bad, overwrite)
        return import_arrays(path, X, facts, settings, columns=columns or {}, images=images)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (type(self), self.path, self._identity)

    def __repr__(self) -> str:
        if self._mapped is None:
            return f"FeatureCache({str(self.path)!r}: closed)"
        layers = ", ".join(layer.key for layer in self.layers)
        return f"FeatureCache({str(self.path)!r}: {count_of(self.rows, 'row')}; {layers}; {self.spec.dtype})"

    def __len__(self) -> int:
        return self.rows

    def close(self) -> None:
        """Close the file, so that it can be replaced or deleted on Windows.

        The cache can't be used afterwards. Arrays taken from it stay valid, and hold the file until they are
        deleted.
        """
        mapped, self._mapped = self._mapped, None
        self.__dict__.pop("_metadata", None)
        if mapped is not None:
            mapped.close()

    @property
    def _file(self) -> MappedFile:
        if self._mapped is None:
            raise ValueError(f"{self._path}: the cache was closed; open it again")
        return self._mapped

    @property
    def _identity(self) -> str:
        """Identity of the file under its name: digests of the images and of the features' checksums."""
        blocks = xxhash.xxh3_128_hexdigest(self._file.array("blocks").tobytes())
        return f"{self.key}:{self._file.layout.table_digest}:{blocks}"

    @property
    def path(self) -> Path:
        """Path of the file when it was opened."""
        return self._path

    @property
    def spec(self) -> FeatureSpec:
        """Specification of the features."""
        return self._file.layout.spec

    @property
    def key(self) -> str:
        """Digest of the specification, 64 hexadecimal digits."""
        return self.spec.digest

    @property
    def rows(self) -> int:
        """Number of images, with or without features."""
        return self._file.layout.rows

    @property
    def source(self) -> str:
        """Absolute path of the folder or manifest of the images."""
        return self._file.layout.origin.source

    @property
    def notes(self) -> SourceNotes:
        """How the images were listed when the file was created, and which entries were skipped."""
        return self._file.layout.origin.notes

    @property
    def weights(self) -> str:
        """Weights that the user chose for the backbone, e.g. an absolute path; empty for its own."""
        return self._file.layout.origin.weights

    @property
    def check(self) -> Check | None:
        """Comparison of the features with those of eager fp32; None for eager fp32 itself or if not compared."""
        return self._file.layout.origin.check

    @property
    def timing(self) -> Timing | None:
        """Time and energy of the computation; None if they were not recorded.

        Raises:
            ChecksumError: They are damaged.
        """
        known = self._measured("seconds")
        if not len(known):
            return None
        joules = self._measured("joules")
        return Timing(
            len(known),
            float(known.sum(dtype=np.float64)),
            self._file.layout.origin.machine,
            float(joules.mean(dtype=np.float64)) if len(joules) else None,
        )

    def _measured(self, name: str) -> Array:
        """Return the known measurements per row, whose checksum is that of the metadata."""
        if name not in self._file.layout.extents:
            return np.empty(0, np.float32)
        if self._file.layout.version > 1:
            self._verify(-1)
        values = self._file.array(name)
        return values[np.isfinite(values) & (values > 0)]

    @property
    def part(self) -> Part | None:
        """Part of a cache that the file holds; None for a whole cache."""
        return self._file.layout.part.part if self._file.layout.part else None

    @property
    def created(self) -> datetime:
        """Creation time of the file in UTC."""
        return datetime.fromtimestamp(self._file.layout.origin.created / 1e9, UTC)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Stored layers."""
        return self.spec.layers

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, indexed by the labels."""
        return self._file.table.classes

    @cached_property
    def ids(self) -> NDArray[np.str_]:
        """(n,) str: path of each image relative to the source."""
        return self._decoded("ids", self._file.table.ids)

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,) int64 index into `classes`, -1 for unknown."""
        return self._file.table.labels

    @property
    def split(self) -> NDArray[np.uint8]:
        """(n,) uint8 codes of `frostline.splits.Split`: none, train, val, test."""
        return self._file.table.split

    @cached_property
    def groups(self) -> NDArray[np.str_]:
        """(n,) str: group of each image, "" for no group. Rows of one group belong to one split."""
        return self._decoded("groups", self._file.table.groups)

    @cached_property
    def columns(self) -> Mapping[str, NDArray[Any]]:
        """Side columns by name: (n,) float64, NaN for a missing number; or (n,) str, "" for a missing text."""
        try:
            return {column.name: column.cells for column in self._file.table.columns}
        except UnicodeDecodeError as error:
            raise CacheFormatError(f"{self.path}: a side column is not UTF-8 ({error})") from None

    def _decoded(self, what: str, names: NDArray[np.bytes_]) -> NDArray[np.str_]:
        try:
            return np.strings.decode(names, "utf-8")
        except UnicodeDecodeError as error:
            raise CacheFormatError(f"{self.path}: one of the {what} is not UTF-8 ({error})") from None

    @property
    def content(self) -> NDArray[np.uint8]:
        """(n, 16) uint8: BLAKE2b-128 digest of each image file; zero for unreadable files."""
        return self._metadata["content"]

    @property
    def stamps(self) -> NDArray[np.uint8]:
        """(n, 16) uint8: stamp of each image when it was read; see `frostline.features.table.ImageTable`."""
        return self._metadata["stat"].view(np.uint8)

    @cached_property
    def ok(self) -> NDArray[np.bool_]:
        """(n,) bool: rows that have features."""
        ok: NDArray[np.bool_] = self._metadata["status"] == OK
        return ok

    @cached_property
    def errors(self) -> dict[int, str]:
        """Reason for each failed row, by row."""
        failed = np.flatnonzero(self._metadata["status"] == FAILED)
        texts = self._metadata["errors"][failed].tolist()
        return {row: text.decode(errors="replace") for row, text in zip(failed.tolist(), texts, strict=True)}

    def check_metadata(self, blocks: NDArray[np.int64] | None = None) -> None:
        """Verify the checksums of content, stamps, status and errors, at most once per object.

        Args:
            blocks: (k,) int64 blocks to check; None for all.

        Raises:
            ChecksumError: The metadata is damaged.
        """
        self._verify(-1, blocks)

    def check_features(self, layer: str | None = None, blocks: NDArray[np.int64] | None = None) -> None:
        """Verify the checksums of a layer, at most once per object; see `check_metadata`."""
        self._verify(self._column(layer), blocks)

    @property
    def table(self) -> ImageTable:
        """Images of the cache as their source would list them, memory-mapped."""
        table = self._file.table
        return replace(table, stamps=self.stamps)

    @property
    def file(self) -> MappedFile:
        """Memory-mapped file of the cache. Its arrays are not verified."""
        return self._file

    @overload
    def features(
        self, layer: str | None = None, *, view: int = 0, as_torch: Literal[False] = False
    ) -> Array: ...
    @overload
    def features(
        self, layer: str | None = None, *, view: int = 0, as_torch: Literal[True]
    ) -> "torch.Tensor": ...
    def features(
        self, layer: str | None = None, *, view: int = 0, as_torch: bool = False
    ) -> "Array | torch.Tensor":
        """Return the features of one layer. Rows of failed images are NaN.

        Args:
            layer: Key of the layer, e.g. ``embedding`` or ``blocks.4:avg``. Optional for a cache with a single
                layer.
            view: Index of the augmented view; 0 is the plain image.
            as_torch: Whether to return a tensor instead of a NumPy array.

        Returns:
            (n, dim) float32 or float16, memory-mapped: a read-only array, or a CPU tensor whose changes never
            reach the file. For a bfloat16 cache, a memory-mapped torch.bfloat16 tensor, or a float32 array, which
            is a copy.

        Raises:
            LayerError: The layer is not in the cache, or no layer is named although the cache has several.
            IndexError: The cache has no such view.
            ChecksumError: Rows are damaged.
        """
        column = self._column(layer)
        if not 0 <= view < self.spec.views:
            raise IndexError(
                f"{self.path}: has {count_of(self.spec.views, 'view')}, numbered from 0; got {view}"
            )
        self._verify(column)
        name = feature_name(self.layers[column].key)
        if as_torch:
            return self._tensor(name)[:, view]
        return decode(self._file.array(name)[:, view], self.spec.dtype)

    def search(
        self,
        queries: "str | Sequence[str] | ArrayLike",
        k: int = 20,
        *,
        layer: str | None = None,
        metric: "Metric" = "cosine",
        exclude_self: bool = True,
        among: "ArrayLike | None" = None,
        device: str = "auto",
    ) -> "NearestRows":
        """Find the nearest rows of each query.

        The search is exact: rows are ranked by float64 distances. It works in blocks, in bounded memory, and on the GPU
        if there is one. Rows of failed images are never found.

        Args:
            queries: Ids of images of the cache, or their row numbers, or (q, dim) new vectors.
            k: Rows to find for each query.
            layer: Key of the layer. Optional for a cache with a single layer.
            metric: ``cosine`` (distance 1 - cosine; a zero vector has distance 1 to every row) or ``euclidean``.
            exclude_self: Whether an image of the cache is left out of its own neighbours. Its copies are not.
            among: Rows to search: an (n,) bool mask, or row numbers; None for all rows.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

        Returns:
            Rows, ids and distances, (q, k) each, the nearest first; of equally near rows the first comes first.

        Raises:
            SearchError: A query is not valid or has no features, or there are fewer than k rows.
            LayerError: The layer is not in the cache, or no layer is named although the cache has several.
            ChecksumError: Rows are damaged.
            OptionError: The device is not available.
        """
        from frostline.features.cache.search import search_rows

        return search_rows(
            self,
            queries,
            k,
            layer=layer,
            metric=metric,
            exclude_self=exclude_self,
            among=among,
            device=device,
        )

    def verify(self) -> VerifyReport:
        """Read every byte of the file again, compare it with the checksums, and return a report."""
        rows, blocks = self.rows, np.arange(self._file.layout.blocks)
        bad = [] if self._file.table_is_intact() else [("table", 0, rows - 1)]
        if not bad:
            _ = self.ids, self.groups, self.columns  # which are text
        for column, what in enumerate([*(layer.key for layer in self.layers), "metadata"]):
            wrong = blocks[~self._file.recheck(column, blocks)]
            bad += [(what, first, last) for first, last in self._runs(wrong)]
        return VerifyReport(rows, len(blocks), tuple(bad))

    def info(self) -> CacheInfo:
        """Return a summary of the cache."""
        splits = np.bincount(self.split, minlength=len(SPLITS)).tolist()
        ok = int(self.ok.sum())
        return CacheInfo(
            path=self.path,
            bytes=self._file.layout.size,
            rows=self.rows,
            ok=ok,
            failed=self.rows - ok,
            classes=self.classes,
            splits={name: count for name, count in zip(SPLITS, splits, strict=True) if count},
            layers=self.layers,
            dtype=self.spec.dtype,
            key=self.key,
            spec=self.spec,
            check=self.check,
            timing=self.timing,
            created=self.created,
            source=self.source,
            columns={
                column.name: "number" if column.is_numeric else "text" for column in self._file.table.columns
            },
            notes=self.notes,
            weights=self.weights or None,
            weights_note=self._file.layout.origin.weights_note or None,
            part=str(self.part) if self.part else None,
            imported=describe_imported(self.spec) if self.spec.is_imported else None,
        )

    @cached_property
    def _metadata(self) -> dict[str, Array]:
        self._verify(-1)
        arrays = {name: self._file.array(name) for name in METADATA}
        if not np.isin(arrays["status"], (OK, FAILED)).all():
            raise CacheFormatError(f"{self.path}: the status of some rows is neither ok nor failed")
        return arrays

    def _column(self, layer: str | None) -> int:
        keys = [layer.key for layer in self.layers]
        if layer is None and len(keys) == 1:
            return 0
        if layer not in keys:
            problem = "has several layers" if layer is None else f"has no layer {layer!r}"
            raise LayerError(f"{self.path}: {problem}; choose one of {', '.join(keys)}")
        return keys.index(layer)

    def _verify(self, column: int, blocks: NDArray[np.int64] | None = None) -> None:
        valid = self._file.check(column, blocks)
        if not valid.all():
            what = self.layers[column].key if column >= 0 else "the metadata"
            damaged = np.flatnonzero(~valid) if blocks is None else blocks[~valid]
            runs = ", ".join(f"{first}-{last}" for first, last in self._runs(damaged))
            raise ChecksumError(
                f"{self.path}: {what} of rows {runs} is damaged: its checksum differs from the one written; "
                + remedy(self.spec, "run the same extract with --overwrite, which recomputes only those rows")
            )

    def _runs(self, blocks: NDArray[np.int64]) -> list[tuple[int, int]]:
        """Return the first and last row of each range of consecutive blocks."""
        rows = self._file.layout.block_rows
        runs = np.split(blocks, np.flatnonzero(np.diff(blocks) != 1) + 1) if len(blocks) else []
        return [(int(run[0]) * rows, min((int(run[-1]) + 1) * rows, self.rows) - 1) for run in runs]

    def _tensor(self, name: str) -> "torch.Tensor":
        import torch

        # torch has no read-only tensors.
        array = self._file.private_array(name)
        if self.spec.dtype == "bfloat16":
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)


def _reopen(cls: type[FeatureCache], path: Path, identity: str) -> FeatureCache:
    cache = cls.open(path)
    if cache._identity != identity:  # noqa: SLF001  # same module
        raise CacheMismatchError(
            f"{path}: was replaced by another cache after it was opened; open it again in the parent process"
        )
    return cache
