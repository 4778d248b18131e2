"""Several caches of the same images, read as one."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.errors import OptionError
from frostline.features.cache import FeatureCache
from frostline.features.cache.imported.facts import tells_images
from frostline.features.errors import SourceError
from frostline.features.sources import open_source
from frostline.features.sources.manifests.manifest import MANIFEST_SUFFIXES
from frostline.features.spec import Layer
from frostline.pipeline.errors import RunError
from frostline.shell import shell_command

_JOIN = "+"
_EXAMPLES = 3


class JoinedCaches:
    """Several caches of the same images, read as one cache with the layers of all.

    Layers are prefixed with the number of their cache: ``2/embedding`` is a layer of the second. Rows are in the
    order of the first cache. Rows of the other caches are matched by image name and bytes, or by bytes alone.

    Args:
        caches: Two or more caches.

    Raises:
        RunError: The caches hold different images, or disagree on labels, splits or groups.
    """

    def __init__(self, caches: Sequence[FeatureCache]) -> None:
        self.caches = tuple(caches)
        if len({cache.path for cache in caches}) < len(caches):
            raise RunError(
                f"{self.path.name}: a cache is named twice; to join several of its layers, use --layer a{_JOIN}b"
            )
        first = self.caches[0]
        self._orders = [_match(first, other) for other in self.caches]
        for other, order in zip(self.caches[1:], self._orders[1:], strict=True):
            _check_table(first, other, order)

    @property
    def path(self) -> Path:
        """Display name of the joined caches, next to the first one; not a real file."""
        first = self.caches[0].path
        return first.with_name(_JOIN.join(cache.path.stem for cache in self.caches) + first.suffix)

    @property
    def key(self) -> str:
        """Digests of the specifications, joined by ``+``."""
        return _JOIN.join(cache.key for cache in self.caches)

    @property
    def rows(self) -> int:
        """Number of images."""
        return self.caches[0].rows

    @property
    def source(self) -> str:
        """Folder or manifest of the images of the first cache."""
        return self.caches[0].source

    @property
    def ids(self) -> NDArray[np.str_]:
        """(n,) str names of the images in the first cache."""
        return self.caches[0].ids

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,) int64 indices into `classes`, -1 for unknown."""
        return self.caches[0].labels

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.caches[0].classes

    @property
    def split(self) -> NDArray[np.uint8]:
        """(n,) uint8 declared splits."""
        return self.caches[0].split

    @property
    def groups(self) -> NDArray[np.str_]:
        """(n,) str groups."""
        return self.caches[0].groups

    @property
    def columns(self) -> Mapping[str, NDArray[Any]]:
        """Side columns of the first cache; see `FeatureCache.columns`."""
        return self.caches[0].columns

    @property
    def content(self) -> NDArray[np.uint8]:
        """(n, 16) uint8 digests of the images' bytes."""
        return self.caches[0].content

    @cached_property
    def ok(self) -> NDArray[np.bool_]:
        """(n,) bool mask of the rows that have features in every cache."""
        found: NDArray[np.bool_] = np.logical_and.reduce(
            [cache.ok[order] for cache, order in zip(self.caches, self._orders, strict=True)]
        )
        return found

    @cached_property
    def errors(self) -> dict[int, str]:
        """Reason for each row that lacks features in one of the caches, by row."""
        found: dict[int, str] = {}
        for cache, order in zip(self.caches, self._orders, strict=True):
            by_row = cache.errors
            for row in np.flatnonzero(~cache.ok[order]).tolist():
                found.setdefault(row, by_row[int(order[row])])
        return found

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Layers of all caches."""
        return tuple(
            Layer(f"{number}/{layer.name}", layer.pool, layer.dim)
            for number, cache in enumerate(self.caches, 1)
            for layer in cache.layers
        )

    def features(self, key: str) -> Any:
        """Return the (n, dim) features of one layer in the order of `ids`; rows are copied on indexing."""
        number, _, own = key.partition("/")
        index = int(number) - 1
        return _Reordered(self.caches[index].features(own), self._orders[index])


AnyCache = FeatureCache | JoinedCaches


class _Reordered:
    """View of an (n, dim) array in another row order; rows are copied on indexing."""

    def __init__(self, array: NDArray[Any], order: NDArray[np.int64]) -> None:
        self._array, self._order = array, order
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        """Return rows as a (k, dim) array."""
        taken: NDArray[Any] = self._array[self._order[rows]]
        return taken


def open_caches(named: str | Path | AnyCache | Sequence[str | Path]) -> AnyCache:
    """Open a cache, or several caches that are read as one.

    Args:
        named: A path, paths joined by ``+``, a sequence of paths, or an open cache.

    Raises:
        OptionError: `named` is not a path, a sequence of paths or an open cache.
        RunError: The caches hold different images, or disagree on labels, splits or groups.
        FeaturesError: A cache is not usable.
        OSError: A cache can't be read.
    """
    if isinstance(named, FeatureCache | JoinedCaches):
        return named
    if isinstance(named, str | Path):
        whole = not Path(named).exists() and _JOIN in str(named)
        named = str(named).split(_JOIN) if whole else [named]
    if (
        not isinstance(named, Sequence)
        or not named
        or not all(isinstance(path, str | Path) for path in named)
    ):
        raise OptionError(
            f"cache: got {repr(named)[:80]}, expected the path of a cache, several paths, or an open FeatureCache"
        )
    opened = [_open(Path(path)) for path in named]
    return opened[0] if len(opened) == 1 else JoinedCaches(opened)


def _open(path: Path) -> FeatureCache:
    """Open a cache. If it is missing, a note says whether the manifest of its name beside it can be extracted."""
    try:
        return FeatureCache.open(path)
    except FileNotFoundError as error:
        for manifest in map(path.with_suffix, MANIFEST_SUFFIXES):
            if manifest.is_file():
                error.add_note(_describe_manifest(manifest, path))
        raise


def _describe_manifest(manifest: Path, cache: Path) -> str:
    try:
        open_source(manifest).close()
    except SourceError as error:
        return f"{manifest.name} beside it can't be extracted like this: {error}"
    return f"To extract {manifest.name} beside it: {shell_command('frostline', 'extract', manifest, '--cache', cache)}"


def members(cache: AnyCache) -> tuple[FeatureCache, ...]:
    """Return the caches that are read as one."""
    return cache.caches if isinstance(cache, JoinedCaches) else (cache,)


def _match(first: FeatureCache, other: FeatureCache) -> NDArray[np.int64]:
    """Return the (n,) rows of `other` that hold the image of each row of `first`.

    Vectors that were imported without images are matched by their ids, which the user must have given.
    """
    without = [cache for cache in (first, other) if not tells_images(cache.spec)]
    if without:
        return _match_ids(first, other, without)
    if np.array_equal(first.ids, other.ids) and np.array_equal(first.content, other.content):
        return np.arange(first.rows)
    ours, theirs = image_digests(first.content), image_digests(other.content)
    by_id = find(first.ids, other.ids)
    named = by_id >= 0
    # An image that one of the caches could not read has no digest and is matched by name.
    unread = (ours == bytes(16)) | (theirs[by_id] == bytes(16))
    order = np.where(named & ((ours == theirs[by_id]) | unread), by_id, find(ours, theirs))
    lost = first.ids[order < 0]
    foreign = other.ids[(find(theirs, ours) < 0) & (find(other.ids, first.ids[order >= 0]) < 0)]
    if len(lost) or len(foreign):
        raise RunError(
            f"{first.path} and {other.path} hold different images: {_describe_names(lost)} only in the first, {_describe_names(foreign)}"
            " only in the second."
            " Run extract for both on the same data; only new images are computed."
        )
    return order


def _match_ids(
    first: FeatureCache, other: FeatureCache, without: Sequence[FeatureCache]
) -> NDArray[np.int64]:
    for cache in without:
        if "id" not in cache.notes.columns and other is not first:
            raise RunError(
                f"{cache.path}: its vectors were imported without ids and without images, so nothing tells which of its rows"
                f" belong to those of {(other if cache is first else first).path}. Import it again with --ids or --images."
            )
    order = find(first.ids, other.ids)
    lost, foreign = first.ids[order < 0], other.ids[find(other.ids, first.ids) < 0]
    if len(lost) or len(foreign):
        raise RunError(
            f"{first.path} and {other.path} hold different rows: {_describe_names(lost)} only in the first, {_describe_names(foreign)}"
            " only in the second. Vectors that were imported without images are matched by their ids."
        )
    return order


def image_digests(content: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """Return (n, 16) digests as (n,) byte strings of 16 bytes, which can be sorted and compared."""
    return np.ascontiguousarray(content).view("S16")[:, 0]


def find(wanted: NDArray[Any], names: NDArray[Any]) -> NDArray[np.int64]:
    """Return the (n,) position of each of `wanted` in `names`: the first of equal names, -1 if missing."""
    if not len(names):
        return np.full(len(wanted), -1)
    unique, first = np.unique(names, return_index=True)
    position = np.searchsorted(unique, wanted).clip(max=len(unique) - 1)
    return np.where(unique[position] == wanted, first[position], -1)


def _check_table(first: FeatureCache, other: FeatureCache, order: NDArray[np.int64]) -> None:
    """Raise `RunError` for different labels, splits or groups: one of the caches is older than its data."""
    for what, ours, theirs in (
        ("label", _labels(first), _labels(other)),
        ("split", first.split, other.split),
        ("group", first.groups, other.groups),
    ):
        different = first.ids[ours != theirs[order]]
        if len(different):
            raise RunError(
                f"{first.path} and {other.path} disagree on the {what} of {_describe_names(different)} of their {first.rows} images."
                " Run extract for both again; no feature is computed twice."
            )


def _labels(cache: FeatureCache) -> NDArray[np.str_]:
    return np.array([*cache.classes, ""])[cache.labels]


def _describe_names(names: NDArray[np.str_]) -> str:
    if not len(names):
        return "0"
    more = ", ..." if len(names) > _EXAMPLES else ""
    return f"{len(names)} ({', '.join(names[:_EXAMPLES])}{more})"
