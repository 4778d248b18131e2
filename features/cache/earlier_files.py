"""Files of earlier runs at the path of a cache: finished, unfinished, salvage files, and parts."""

import logging
import os.path
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from frostline.features.cache.file.layout import Layout
from frostline.features.cache.file.mapped import MappedFile
from frostline.features.cache.file.part import Part, part_paths
from frostline.features.cache.file.partial import partial_path, salvage_paths
from frostline.features.cache.file.trust import NewerFormatError
from frostline.features.cache.imported.facts import describe_vectors
from frostline.features.cache.reader import FeatureCache
from frostline.features.cache.writing.reuse import Overlap
from frostline.features.errors import CacheFormatError, CacheMismatchError, ChecksumError, FeaturesError
from frostline.features.sources.remote.urls import is_url
from frostline.features.spec import FeatureSpec
from frostline.system.files import resolved

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EarlierFiles:
    """Files of one specification at and next to a path.

    Files of another specification raise an error or are skipped.

    Attributes:
        path: Path of the cache.
        spec: Specification of the features.
        overwrite: Whether to skip unusable files instead of raising an error.
    """

    path: Path
    spec: FeatureSpec
    overwrite: bool

    def final(self) -> FeatureCache | None:
        """Return the finished cache, or None if the file does not exist.

        Raises:
            CacheMismatchError: The cache has another specification.
            CacheFormatError: The file is not a cache of this version.
            ChecksumError: The cache is damaged.
        """
        if not self.path.exists():
            return None
        try:
            final = FeatureCache.open(self.path)
        except (CacheFormatError, ChecksumError) as error:
            if self.overwrite:
                return None
            error.add_note(
                f"{self.path} is unchanged; choose another file with --cache, or replace it with --overwrite"
            )
            raise
        if final.key == self.spec.digest:
            return final
        if self.overwrite:
            return None
        raise CacheMismatchError(self._mismatch(final.path, final.spec, "a cache"))

    def unfinished(self, path: Path) -> MappedFile | None:
        """Open a partial or salvage file, or return None if it is not usable.

        Raises:
            CacheMismatchError: The file has rows of another specification.
            CacheFormatError: A later version wrote the file.
        """
        try:
            file = MappedFile.open(path)
        except NewerFormatError:
            if self.overwrite:
                return None
            raise
        except (CacheFormatError, ChecksumError) as error:
            _log.warning("%s; the file can't be trusted, so its rows are recomputed", error)
            return None
        if file.layout.spec.digest == self.spec.digest:
            return file
        if self.overwrite or not file.committed().any():
            return None
        raise CacheMismatchError(self._mismatch(path, file.layout.spec, "an unfinished cache"))

    def salvages(self) -> list[MappedFile]:
        """Return the salvage files of earlier image sets. Raises the errors of `unfinished`."""
        return [file for path in salvage_paths(self.path) if (file := self.unfinished(path))]

    def relatives(self, whole: Path) -> list[MappedFile]:
        """Return finished files (whole cache and parts) of the same specification that may hold the same images."""
        found = []
        for path in [whole, *part_paths(whole)]:
            if path == self.path:
                continue
            try:
                file = MappedFile.open(path)
            except FileNotFoundError:  # possibly because another process has just merged and deleted it
                continue
            except (CacheFormatError, ChecksumError) as error:
                _log.warning("%s; no row is copied from it", error)
                continue
            if file.layout.spec.digest == self.spec.digest:
                found.append(file)
        return found

    def _mismatch(self, path: Path, theirs: FeatureSpec, what: str) -> str:
        if self.spec.is_imported != theirs.is_imported:
            return (
                f"{path}: {what} of {describe_vectors(theirs)} is there, and {describe_vectors(self.spec)} are never written into it or mixed with it.\n"
                f"Choose another file with {'--out' if self.spec.is_imported else '--cache'}, or replace this one with --overwrite"
            )
        fields = "".join(
            f"\n  {name}: {ours!r} now, {other!r} in the file"
            for name, ours, other in self.spec.differences(theirs)
        )
        return (
            f"{path}: found {what} of another specification; it differs in{fields}\n"
            f"Choose another file with {'--out' if theirs.is_imported else '--cache'}, or replace this one with --overwrite"
        )


def check_source(file: MappedFile, root: str, compare: Callable[[], Overlap]) -> None:
    """Refuse to replace a file of another data set.

    The data set is the same if its place is the same, if the new source holds all images of the file with the same
    labels, splits and groups, or if it was moved: its old place is gone, and the new source holds most of the images. Whether a
    place on another machine is gone is not known.

    Args:
        file: The earlier file.
        root: Root of the source of the new file.
        compare: Function that compares the images of the file with those of the new source.

    Raises:
        CacheMismatchError: The file holds images of another data set.
    """
    earlier = file.layout.origin.source
    if _is_same_place(earlier, root):
        return
    found = compare()
    is_gone = not is_url(earlier) and not os.path.exists(earlier)  # noqa: PTH110  # a root may be no path
    if found.is_complete or (is_gone and 2 * found.common >= found.images):
        return
    raise CacheMismatchError(
        f"{file.path}: holds features of another data set; {found.images} images from {earlier}, of which {root} has"
        f" {found.common}{'' if found.agrees else ', with other labels, splits or groups'}.\n"
        "Choose another file with --cache (merge and import: --out; finetune: --caches FOLDER), or replace this one with --overwrite"
    )


def _is_same_place(one: str, other: str) -> bool:
    try:
        return one == other or os.path.samefile(one, other)  # noqa: PTH121  # as above
    except (OSError, ValueError):
        return False


def made_with(path: str | Path, part: Part | None = None) -> Layout | None:
    """Return the header of the finished or unfinished cache that `open_writer` will find at a path.

    It shows how the existing features were computed, so that the same engine can be chosen. Files that can't be
    opened are skipped; `open_writer` reports their errors.

    Args:
        path: Path of the cache.
        part: Part that will be written; None for the whole cache.

    Returns:
        The header, or None if no file holds a committed row.
    """
    path = resolved(path)
    if not path.parent.is_dir():
        return None
    target = part.path(path) if part else path
    for candidate in [path, target, partial_path(target), *salvage_paths(target)]:
        try:
            file = MappedFile.open(candidate)
        except (OSError, FeaturesError):
            continue
        if file.layout.spec.is_imported:
            return None  # nothing was computed, and `open_writer` refuses it
        if file.committed().any():
            return file.layout
    return None
