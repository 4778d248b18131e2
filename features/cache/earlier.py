"""What earlier runs left where a cache is to be: finished, unfinished, set aside, or in parts."""

import logging
from dataclasses import dataclass
from pathlib import Path

from frostline.features.cache.file.layout import Layout
from frostline.features.cache.file.mapped import MappedFile
from frostline.features.cache.file.part import Part, part_paths
from frostline.features.cache.file.partial import partial_path, salvage_paths
from frostline.features.cache.file.trust import NewerFormatError
from frostline.features.cache.reader import FeatureCache
from frostline.features.errors import CacheFormatError, CacheMismatchError, ChecksumError, FeaturesError
from frostline.features.spec import FeatureSpec

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Earlier:
    """Files of one specification at and beside a path. A file of another one is an error, or passed over.

    Attributes:
        path: The cache.
        spec: What its features depend on.
        overwrite: Pass over what can't be used, in place of an error.
    """

    path: Path
    spec: FeatureSpec
    overwrite: bool

    def final(self) -> FeatureCache | None:
        """The finished cache, if there is one.

        Raises:
            CacheMismatchError: It is of another specification.
            CacheFormatError: It is not a cache of this version.
            ChecksumError: It is damaged.
        """
        if not self.path.exists():
            return None
        try:
            final = FeatureCache.open(self.path)
        except (CacheFormatError, ChecksumError) as error:
            if self.overwrite:
                return None
            error.add_note(
                f"{self.path} is left as it is; name another file with --cache, or replace it with --overwrite"
            )
            raise
        if final.key == self.spec.digest:
            return final
        if self.overwrite:
            return None
        raise CacheMismatchError(self._mismatch(final.path, final.spec, "a cache"))

    def unfinished(self, path: Path) -> MappedFile | None:
        """A partial or salvaged file, if it can be trusted.

        Raises:
            CacheMismatchError: It has rows of another specification.
            CacheFormatError: A later version wrote it.
        """
        try:
            file = MappedFile.open(path)
        except NewerFormatError:
            if self.overwrite:
                return None
            raise
        except (CacheFormatError, ChecksumError) as error:
            _log.warning("%s; nothing in it can be trusted, so its rows are computed again", error)
            return None
        if file.layout.spec.digest == self.spec.digest:
            return file
        if self.overwrite or not file.committed().any():
            return None
        raise CacheMismatchError(self._mismatch(path, file.layout.spec, "an unfinished cache"))

    def salvages(self) -> list[MappedFile]:
        """Unfinished files of earlier image sets; errors as in `unfinished`."""
        return [file for path in salvage_paths(self.path) if (file := self.unfinished(path))]

    def relatives(self, whole: Path) -> list[MappedFile]:
        """Finished files of the same specification that may hold the same images: a whole cache and its parts."""
        found = []
        for path in [whole, *part_paths(whole)]:
            if path == self.path:
                continue
            try:
                file = MappedFile.open(path)
            except FileNotFoundError:  # also where another process has just merged and deleted it
                continue
            except (CacheFormatError, ChecksumError) as error:
                _log.warning("%s; no row is copied from it", error)
                continue
            if file.layout.spec.digest == self.spec.digest:
                found.append(file)
        return found

    def _mismatch(self, path: Path, theirs: FeatureSpec, what: str) -> str:
        fields = "".join(
            f"\n  {name}: {ours!r} now, {other!r} in the file"
            for name, ours, other in self.spec.differences(theirs)
        )
        return (
            f"{path}: {what} of another specification is there; it differs in{fields}\n"
            "Name another file with --cache, or replace this one with --overwrite"
        )


def made_with(path: str | Path, part: Part | None = None) -> Layout | None:
    """The header of the finished or unfinished cache that `open_writer` will find at a path.

    Whoever is free to choose how to compute features learns from it how the ones that are there were computed. Files
    that can't be opened are passed over: `open_writer` says what is wrong with them.

    Args:
        path: The cache.
        part: The part of it that is to be written.
    """
    path = Path(path).resolve()
    if not path.parent.is_dir():
        return None
    target = part.path(path) if part else path
    for candidate in [path, target, partial_path(target), *salvage_paths(target)]:
        try:
            file = MappedFile.open(candidate)
        except (OSError, FeaturesError):
            continue
        if file.committed().any():
            return file.layout
    return None
