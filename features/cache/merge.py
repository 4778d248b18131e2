"""Merging of the parts of a cache into the file that a single process would have written."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from frostline.features.cache.earlier_files import EarlierFiles, check_source
from frostline.features.cache.file.layout import table_arrays, table_digest
from frostline.features.cache.file.part import Part, whole_path
from frostline.features.cache.file.partial import PartialFile, partial_path, salvage_paths
from frostline.features.cache.reader import FeatureCache
from frostline.features.cache.writing.creation import create
from frostline.features.cache.writing.reuse import Contents, KnownRows, compare_images
from frostline.features.cache.writing.writer import CacheWriter
from frostline.features.columns import Column
from frostline.features.errors import CacheMismatchError, ChecksumError, FeaturesError, PartError
from frostline.features.table import ImageSource, ImageTable
from frostline.system.files import resolved


def merge_parts(
    parts: Sequence[str | Path],
    out: str | Path | None = None,
    *,
    overwrite: bool = False,
    delete_parts: bool = False,
) -> FeatureCache:
    """Merge finished parts into one cache. Every checksum is verified, and no feature is computed.

    An interrupted merge starts over in the next call. If it was interrupted while parts were deleted, the next call
    deletes the others, after a check that the merged cache holds their rows.

    Args:
        parts: Files written by ``extract --part``, each once, in any order.
        out: Path of the merged cache; by default the name that the parts share.
        overwrite: Whether to replace a finished or unfinished cache of another specification or of other images.
        delete_parts: Whether to delete the parts after the merged cache is in place.

    Returns:
        The whole cache. Its ids, labels and features are byte-identical to those written by a single process.

    Raises:
        PartError: A part is missing, duplicated or not a part, the parts belong to different states of the image
            set, or an unfinished cache of other images is in the way.
        CacheMismatchError: The parts, or the parts and the file at `out`, have different specifications, or the file
            at `out` is a finished cache of another data set.
        CacheFormatError: A file is not a valid cache.
        ChecksumError: A part is damaged.
        CacheBusyError: Another process is writing `out`.
        OSError: The disk is full, or another file operation failed.
    """
    merged = _merged_before(parts, out) if delete_parts else None
    if merged:
        _delete(each for each in map(Path, parts) if each.exists())
        return merged
    caches = _in_order([FeatureCache.open(path) for path in parts])
    path = resolved(out) if out is not None else _common_name(caches)
    whole = _Whole(caches)
    with _open(path, caches, whole, overwrite=overwrite) as writer:
        writer.reuse(_all_rows(caches))
        if len(writer.todo):
            raise ChecksumError(_damage_message(caches, int(writer.todo[0])))
        merged = writer.finish()
    if delete_parts:
        for cache in caches:
            cache.close()
        _delete(cache.path for cache in caches)
    return merged


def _delete(parts: Iterable[Path]) -> None:
    for part in parts:
        part.unlink()


def _merged_before(parts: Sequence[str | Path], out: str | Path | None) -> FeatureCache | None:
    """Return the merged cache if an earlier call completed it and deleted some of the parts; else None."""
    paths = [Path(part) for part in parts]
    found = [FeatureCache.open(path) for path in paths if path.exists()]
    counts = {cache.part.count for cache in found if cache.part}
    if len(found) == len(paths) and counts <= {len(found)}:
        return None  # all are there
    names = {whole_path(path) for path in paths}
    if out is None and len(names) != 1:
        return None
    try:
        whole = FeatureCache.open(Path(out) if out is not None else names.pop())
    except (OSError, FeaturesError):
        return None
    merged = whole.part is None and all(_holds(whole, cache) for cache in found)
    for cache in found:
        cache.close()
    return whole if merged else None


def _holds(whole: FeatureCache, cache: FeatureCache) -> bool:
    """Return whether a merged cache has the rows of a part."""
    layout = cache.file.layout
    part = layout.part
    if part is None or whole.key != cache.key or part.whole != table_digest(table_arrays(whole.table)):
        return False
    rows = part.part.rows(whole.rows, layout.block_rows)
    return np.array_equal(whole.content[rows], cache.content) and np.array_equal(whole.ok[rows], cache.ok)


class _Whole(ImageSource):
    """Images of all parts, concatenated."""

    def __init__(self, parts: Sequence[FeatureCache]) -> None:
        tables = [cache.table for cache in parts]
        self.root, self.notes = parts[0].source, parts[0].notes
        self.table = ImageTable(
            ids=np.concatenate([table.ids for table in tables]),
            labels=np.concatenate([table.labels for table in tables]),
            classes=tables[0].classes,
            split=np.concatenate([table.split for table in tables]),
            groups=np.concatenate([table.groups for table in tables]),
            stamps=np.concatenate([table.stamps for table in tables]),
            columns=tuple(
                Column(column.name, np.concatenate([table.columns[index].values for table in tables]))
                for index, column in enumerate(tables[0].columns)
            ),
        )

    def read(self, row: int) -> tuple[bytes, bytes]:
        raise OSError(f"{self.table.ids[row]!r}: merging reads no images")


def _in_order(caches: Sequence[FeatureCache]) -> list[FeatureCache]:
    """Sort the parts by number, and check that they form one whole cache."""
    found: dict[Part, FeatureCache] = {}
    for cache in caches:
        if cache.part is None:
            raise PartError(f"{cache.path}: is a whole cache; expected parts written by extract --part")
        if cache.part in found:
            raise PartError(f"part {cache.part} is given twice: {found[cache.part].path} and {cache.path}")
        found[cache.part] = cache
    if not found:
        raise PartError("no parts to merge; expected files written by extract --part")
    ordered = [found[part] for part in sorted(found)]
    first = ordered[0]
    for cache in ordered[1:]:
        _check_compatible(first, cache)
    count = max(part.count for part in found)
    missing = [str(part) for number in range(1, count + 1) if (part := Part(number, count)) not in found]
    if missing:
        raise PartError(
            f"{len(missing)} of {count} parts are missing: {', '.join(missing)}; run the same extract for each, with "
            f"--part {missing[0]}"
        )
    return ordered


def _check_compatible(one: FeatureCache, other: FeatureCache) -> None:
    if one.key != other.key:
        fields = "".join(
            f"\n  {name}: {ours!r} and {theirs!r}" for name, ours, theirs in one.spec.differences(other.spec)
        )
        raise CacheMismatchError(
            f"{one.path} and {other.path} have different specifications; they differ in{fields}"
        )
    if one.info().columns != other.info().columns:
        raise PartError(f"{one.path} and {other.path} have different side columns; extract every part again")
    mine, theirs = one.file.layout.part, other.file.layout.part
    if mine and theirs and mine.part.count != theirs.part.count:
        raise PartError(
            f"{one.path} is part {mine.part}, but {other.path} is part {theirs.part}; expected parts of "
            "the same division"
        )
    if mine and theirs and mine.whole != theirs.whole:
        raise PartError(
            f"{one.path} and {other.path} belong to different states of the image set: images, labels or splits "
            "changed in between. Run the same extract again for every part; it computes only changed images"
        )


def _common_name(caches: Sequence[FeatureCache]) -> Path:
    names = {cache.path.parent / cache.path.name.removesuffix(_suffix(cache)) for cache in caches}
    if len(names) > 1 or any(not cache.path.name.endswith(_suffix(cache)) for cache in caches):
        raise PartError("the parts don't share a folder and a name; choose the path of the cache with --out")
    return names.pop()


def _suffix(cache: FeatureCache) -> str:
    return cache.part.path(Path("-")).name.removeprefix("-") if cache.part else ""


def _open(path: Path, caches: Sequence[FeatureCache], whole: ImageSource, *, overwrite: bool) -> CacheWriter:
    first = caches[0].file.layout
    digest = table_digest(table_arrays(whole.table))
    if first.part is None or digest != first.part.whole:
        raise PartError(
            "the parts don't add up to the image set that they were extracted from; extract every part again"
        )
    earlier = EarlierFiles(path, first.spec, overwrite)
    final = earlier.final()
    if final and not overwrite:
        check_source(final.file, whole.root, lambda: compare_images(final.file, Contents(whole)))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = PartialFile.acquire(partial_path(path))
    try:
        if not overwrite:
            _check_unfinished(earlier, partial, digest)
        partial.clear()
        # The stamp of an image is reliable only for changes before its part was created.
        created = min(cache.file.layout.origin.created for cache in caches)
        origin = replace(first.origin, created=created)
        layout = create(partial.fd, partial.path, first.spec, whole.table, origin)
    except BaseException:
        partial.discard_if_empty()
        raise
    return CacheWriter(path, partial, layout, np.zeros(layout.blocks, bool), whole)


def _check_unfinished(earlier: EarlierFiles, partial: PartialFile, digest: str) -> None:
    unfinished = None if partial.is_empty() else earlier.unfinished(partial.path)
    foreign = unfinished and unfinished.layout.table_digest != digest and unfinished.committed().any()
    if foreign or salvage_paths(earlier.path):
        raise PartError(
            f"{partial.path}: found an unfinished extraction of other images; finish it, choose another file with "
            "--out, or discard it with --overwrite"
        )


def _all_rows(caches: Sequence[FeatureCache]) -> KnownRows:
    counts = [cache.rows for cache in caches]
    return KnownRows(
        rows=np.arange(sum(counts)),
        files=[cache.file for cache in caches],
        file=np.repeat(np.arange(len(caches)), counts),
        origin=np.concatenate([np.arange(count) for count in counts]),
        stamps=np.concatenate([cache.stamps for cache in caches]),
    )


def _damage_message(caches: Sequence[FeatureCache], row: int) -> str:
    for cache, start in zip(caches, itertools.accumulate((c.rows for c in caches), initial=0), strict=False):
        if row < start + cache.rows:
            return (
                f"{cache.path}: row {row - start} is damaged: its checksum differs from the one written. Run the same "
                f"extract with --part {cache.part} --overwrite, which recomputes only the damaged rows, and merge again"
            )
    raise IndexError(row)
