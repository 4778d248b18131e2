"""Read a finished cache: ids, labels, splits and features, in place."""

from collections.abc import Mapping
from dataclasses import dataclass
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
from frostline.features.errors import CacheFormatError, CacheMismatchError, ChecksumError, LayerError
from frostline.features.fidelity import Check
from frostline.features.spec import FeatureSpec, Layer
from frostline.features.table import FAILED, OK, ImageTable
from frostline.splits import SPLITS

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Timing:
    """What computing a cache's features took, over all the runs that did it.

    Attributes:
        images: Rows whose time is known; rows copied from an earlier cache bring theirs along.
        seconds: Wall time of decoding and forward passes for them, of all processes together where parts were merged.
        machine: What the first run computed on, in words; empty where that is not known.
        joules: Energy of an image, of the processors and the GPU as a whole; none where the machine doesn't count it.
    """

    images: int
    seconds: float
    machine: str
    joules: float | None = None

    @property
    def images_per_second(self) -> float:
        """Of one process."""
        return self.images / self.seconds


@dataclass(frozen=True)
class VerifyReport:
    """What reading every byte of a cache showed.

    Attributes:
        rows: Images in it.
        blocks: Runs of rows that share checksums.
        bad: (what, first row, last row) of every damaged run: a layer's key, "metadata" for content, stamps, status and
            errors, or "table" for ids, labels, splits, groups and classes.
    """

    rows: int
    blocks: int
    bad: tuple[tuple[str, int, int], ...]

    @property
    def ok(self) -> bool:
        """Whether all is as it was written."""
        return not self.bad


@dataclass(frozen=True)
class CacheInfo:
    """What a cache holds, in short.

    Attributes:
        path: The file.
        bytes: Its size.
        rows: Images in it.
        ok: Those with features.
        failed: Those without.
        classes: Their names.
        splits: Images by name of split, "" for none.
        layers: What is stored of each image.
        dtype: Number format of the features.
        key: Digest of the specification.
        spec: The specification.
        check: How far the features are from those of eager fp32, if they were compared.
        timing: What computing them took; None where that is not known.
        created: When its making began.
        source: The folder or manifest that the images came from.
        part: Which part of a cache it is, e.g. "2/4"; None for a whole one.
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
    part: str | None


class FeatureCache:
    """A finished cache file, read in place: `FeatureCache.open`.

    Opening reads no features. Arrays are views of the file: they cost no memory of their own, may be used in any
    number of processes, forked or spawned, and stay valid when the file is replaced or deleted. Checksums are verified
    when a layer or the metadata is first used in a process.
    """

    def __init__(self, file: MappedFile) -> None:
        self._path = file.path
        self._mapped: MappedFile | None = file

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open a finished cache.

        Raises:
            OSError: The file can't be read.
            CacheFormatError: It is not a finished cache that this version can trust.
            ChecksumError: Its ids, labels, splits, groups or classes are damaged.
        """
        path = Path(path).resolve()
        if finished_name(path.name) != path.name:
            raise CacheFormatError(
                f"{path}: an unfinished cache; run the same extract again, it goes on from where it stopped, "
                f"and then open {finished_name(path.name)}"
            )
        try:
            file = MappedFile.open(path)
        except FileNotFoundError as error:
            if partial_path(path).exists():
                error.add_note(
                    f"An unfinished one is there, {partial_path(path).name}; run the same extract again"
                )
            raise
        if not file.committed().all():
            raise CacheFormatError(
                f"{path}: an unfinished cache under the name of a finished one; rename it to {path.name}.partial and "
                "run the same extract again, it goes on from where it stopped"
            )
        return cls(file)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (type(self), self.path, self._identity)

    def __repr__(self) -> str:
        if self._mapped is None:
            return f"FeatureCache({str(self.path)!r}: closed)"
        layers = ", ".join(layer.key for layer in self.layers)
        return f"FeatureCache({str(self.path)!r}: {self.rows} rows; {layers}; {self.spec.dtype})"

    def __len__(self) -> int:
        return self.rows

    def close(self) -> None:
        """Let go of the file, so that Windows lets it be replaced or deleted; other systems do so anyway.

        The cache can't be used any more. Arrays taken from it can, and hold the file until they are gone.
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
        """Tells this file from another under the same name: its images and the checksums of their features."""
        blocks = xxhash.xxh3_128_hexdigest(self._file.array("blocks").tobytes())
        return f"{self.key}:{self._file.layout.table_digest}:{blocks}"

    @property
    def path(self) -> Path:
        """Where the file is, or was when it was opened."""
        return self._path

    @property
    def spec(self) -> FeatureSpec:
        """What the features depend on."""
        return self._file.layout.spec

    @property
    def key(self) -> str:
        """Digest of the specification, 64 hexadecimal digits."""
        return self.spec.digest

    @property
    def rows(self) -> int:
        """Images in the cache, with or without features."""
        return self._file.layout.rows

    @property
    def source(self) -> str:
        """The folder or manifest that the images came from, absolute."""
        return self._file.layout.source

    @property
    def weights(self) -> str:
        """What the user gave as the backbone's weights, e.g. an absolute path; empty for its own."""
        return self._file.layout.weights

    @property
    def check(self) -> Check | None:
        """How far the features are from those of eager fp32; none where they are its own, or were not compared."""
        return self._file.layout.check

    @property
    def timing(self) -> Timing | None:
        """What computing the features took; None where that was not recorded."""
        known = self._measured("seconds")
        if not len(known):
            return None
        joules = self._measured("joules")
        return Timing(
            len(known),
            float(known.sum(dtype=np.float64)),
            self._file.layout.machine,
            float(joules.mean(dtype=np.float64)) if len(joules) else None,
        )

    def _measured(self, name: str) -> Array:
        """What the rows took, of those where it is known."""
        if name not in self._file.layout.extents:
            return np.empty(0, np.float32)
        values = self._file.array(name)
        return values[np.isfinite(values) & (values > 0)]

    @property
    def part(self) -> Part | None:
        """Which part of a cache this file is; None for a whole one."""
        return self._file.layout.part.part if self._file.layout.part else None

    @property
    def created(self) -> datetime:
        """When the making of the file began, UTC."""
        return datetime.fromtimestamp(self._file.layout.created / 1e9, UTC)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """What is stored of each image."""
        return self.spec.layers

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; labels index them."""
        return self._file.table.classes

    @cached_property
    def ids(self) -> NDArray[np.str_]:
        """(n,) str: path of each image relative to the source."""
        return np.strings.decode(self._file.table.ids, "utf-8")

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
        """(n,) str; rows of a group belong in one split; "" for no group."""
        return np.strings.decode(self._file.table.groups, "utf-8")

    @property
    def content(self) -> NDArray[np.uint8]:
        """(n, 16) uint8: BLAKE2b-128 of each image's file; zero where it could not be read."""
        return self._metadata["content"]

    @property
    def stamps(self) -> NDArray[np.uint8]:
        """(n, 16) uint8: stamp of each image when it was read; see `features.table.ImageTable`."""
        return self._metadata["stat"].view(np.uint8)

    @cached_property
    def ok(self) -> NDArray[np.bool_]:
        """(n,) bool: rows that have features."""
        ok: NDArray[np.bool_] = self._metadata["status"] == OK
        return ok

    @cached_property
    def errors(self) -> dict[int, str]:
        """Why each failed row has no features, by row."""
        failed = np.flatnonzero(self._metadata["status"] == FAILED)
        texts = self._metadata["errors"][failed].tolist()
        return {row: text.decode(errors="replace") for row, text in zip(failed.tolist(), texts, strict=True)}

    def check_metadata(self) -> None:
        """Verify content, stamps, status and errors, unless that was done before.

        Raises:
            ChecksumError: They are not what was written.
        """
        self._verify(-1)

    @property
    def table(self) -> ImageTable:
        """The images as their source would list them, in place."""
        table = self._file.table
        return ImageTable(table.ids, table.labels, table.classes, table.split, table.groups, self.stamps)

    @property
    def file(self) -> MappedFile:
        """The arrays behind this cache, unverified."""
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
        """Features of one layer, rows of failed images NaN.

        Args:
            layer: Its key, e.g. ``embedding`` or ``blocks.4:avg``; may be left out where there is only one.
            view: Which augmented pass; 0 is the plain image.
            as_torch: Give a tensor instead of a numpy array.

        Returns:
            (n, dim) float32 or float16, in place: a read-only array, or a CPU tensor whose changes never reach the file.
            A bfloat16 cache gives a torch.bfloat16 tensor in place, or a float32 array, which is a copy.

        Raises:
            LayerError: The layer is not in the cache, or it has several and none is named.
            IndexError: There are fewer views.
            ChecksumError: Rows are not what was written.
        """
        column = self._column(layer)
        if not 0 <= view < self.spec.views:
            raise IndexError(f"{self.path}: has {self.spec.views} views, numbered from 0; got {view}")
        self._verify(column)
        name = feature_name(self.layers[column].key)
        if as_torch:
            return self._tensor(name)[:, view]
        return decode(self._file.array(name)[:, view], self.spec.dtype)

    def verify(self) -> VerifyReport:
        """Read every byte from the file again and compare it with its checksum."""
        rows, blocks = self.rows, np.arange(self._file.layout.blocks)
        bad = [] if self._file.table_is_intact() else [("table", 0, rows - 1)]
        for column, what in enumerate([*(layer.key for layer in self.layers), "metadata"]):
            wrong = blocks[~self._file.recheck(column, blocks)]
            bad += [(what, first, last) for first, last in self._runs(wrong)]
        return VerifyReport(rows, len(blocks), tuple(bad))

    def info(self) -> CacheInfo:
        """What the cache holds, in short."""
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
            part=str(self.part) if self.part else None,
        )

    @cached_property
    def _metadata(self) -> dict[str, Array]:
        self._verify(-1)
        arrays = {name: self._file.array(name) for name in METADATA}
        if not np.isin(arrays["status"], (OK, FAILED)).all():
            raise CacheFormatError(f"{self.path}: has rows that are neither ok nor failed")
        return arrays

    def _column(self, layer: str | None) -> int:
        keys = [layer.key for layer in self.layers]
        if layer is None and len(keys) == 1:
            return 0
        if layer not in keys:
            asked = "has several layers" if layer is None else f"has no layer {layer!r}"
            raise LayerError(f"{self.path}: {asked}; choose one of {', '.join(keys)}")
        return keys.index(layer)

    def _verify(self, column: int) -> None:
        valid = self._file.check(column)
        if not valid.all():
            what = self.layers[column].key if column >= 0 else "the metadata"
            runs = ", ".join(f"{first}-{last}" for first, last in self._runs(np.flatnonzero(~valid)))
            raise ChecksumError(
                f"{self.path}: {what} of rows {runs} is not what was written: the disk or another program changed it; "
                "run the same extract with --overwrite, it computes only those rows again"
            )

    def _runs(self, blocks: NDArray[np.int64]) -> list[tuple[int, int]]:
        """First and last row of each run of blocks."""
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
    if cache._identity != identity:  # noqa: SLF001  # of the same module
        raise CacheMismatchError(
            f"{path}: was replaced by another cache since it was opened; open it again in the parent process"
        )
    return cache
