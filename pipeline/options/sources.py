"""Options of the reading of an image source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frostline.errors import OptionError
from frostline.options import option
from frostline.pipeline.options.stage import StageOptions

if TYPE_CHECKING:
    from frostline.features.sources.remote.access import Access


@dataclass(frozen=True, kw_only=True)
class RemoteOptions(StageOptions):
    """Options of the reading of remote images."""

    byte_cache: str | Path | None = option(
        None,
        "Folder that keeps the bytes of remote images, so that they are downloaded once.",
        unset="none are kept",
        metavar="DIR",
        setting=False,
    )
    byte_cache_size: int | None = option(
        None,
        "Largest size of --byte-cache, e.g. 50GB; what was used the longest time ago is deleted first.",
        low=1,
        unset="10GB",
        metavar="SIZE",
        parse="frostline.pipeline.hosts.memory:parse_memory",
        setting=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.byte_cache_size is not None and self.byte_cache is None:
            raise OptionError("byte_cache_size: there is no byte cache; name its folder with byte_cache")

    def access(self) -> "Access":
        """Return how remote images are read."""
        from frostline.features.sources.remote.access import CACHE_BYTES, Access

        folder = None if self.byte_cache is None else Path(self.byte_cache)
        return Access(folder, self.byte_cache_size or CACHE_BYTES, self.report.note)

    def remote(self) -> dict[str, Any]:
        """Return the options as far as they are given."""
        return {
            each.name: value
            for each in RemoteOptions.declared()
            if (value := getattr(self, each.name)) is not None
        }


@dataclass(frozen=True, kw_only=True)
class SourceOptions(RemoteOptions):
    """Options of the reading of an image source."""

    limit: int | None = option(
        None, "Use only N images of a data set, evenly spaced.", low=1, unset="all images", metavar="N"
    )
    split_folders: Mapping[str, str] | Sequence[str] | None = option(
        None,
        "Split of each top-level folder: train, val, test, or skip to leave it out; none if these folders are classes.",
        unset="what the names of the folders tell",
        metavar="FOLDER=SPLIT,...",
    )
    path_column: str | None = option(
        None,
        "Column of a manifest with the paths of the images, or of a table with the images.",
        unset="path",
        metavar="NAME",
    )
    label_column: str | None = option(
        None,
        "Column of a table, array of a file, or key of an archive with the labels; none for unlabelled images.",
        unset="label",
        metavar="NAME",
    )
    split_column: str | None = option(
        None,
        "Column of a table, or key of an archive with the splits; none to ignore them.",
        unset="split",
        metavar="NAME",
    )
    group_column: str | None = option(
        None,
        "Column of a table, or key of an archive with the groups; none to ignore them.",
        unset="group",
        metavar="NAME",
    )

    def reading(self) -> dict[str, Any]:
        """Return the options that say how a source is to be read, as far as they are given."""
        return {name: value for name in self._names_of_reading() if (value := getattr(self, name))}

    @classmethod
    def reading_of(cls, recorded: Mapping[str, Any]) -> "SourceOptions":
        """Return the options with what `reading` returned.

        Raises:
            ValueError: There is an unknown option, or a value that `reading` never returns.
        """
        unknown = sorted(set(recorded).difference(cls._names_of_reading()))
        if unknown:
            raise ValueError(f"got the unknown option {unknown[0]!r}")
        return cls(**recorded)

    @staticmethod
    def _names_of_reading() -> list[str]:
        apart = {"limit", *(each.name for each in RemoteOptions.declared())}
        return [each.name for each in SourceOptions.declared() if each.name not in apart]
