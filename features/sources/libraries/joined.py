"""Several splits of a data set as one image source."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from frostline.features.errors import SourceError
from frostline.features.sources.memory import Indexed, images_source
from frostline.features.sources.numbering import numbered
from frostline.features.sources.split_names import SPLIT_CODES
from frostline.features.table import ImageSource


@dataclass(frozen=True)
class Part:
    """Split of a data set.

    Attributes:
        images: Its images, as `memory.images_source` takes them.
        labels: Label of each image, "" for unknown.
        columns: Side columns by name: a number or text per image, None for unknown.
    """

    images: Indexed
    labels: Sequence[str]
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)


def joined_source(name: str, parts: Mapping[str, Part], version: str = "") -> ImageSource:
    """Return the source of a data set. The id of an image is its split and its number in it.

    Args:
        name: Name of the data set, by which its cache knows it.
        parts: Splits by name. Those whose name is no split are joined without one.
        version: Text that changes with the images; empty if only their bytes tell.

    Raises:
        SourceError: The data set is empty, or an image has another type.
    """
    images = _Joined([part.images for part in parts.values()])
    return images_source(
        images,
        ids=[id_ for split, part in parts.items() for id_ in numbered(len(part.images), split)],
        labels=[label for part in parts.values() for label in part.labels],
        split=[
            split if split.lower() in SPLIT_CODES else ""
            for split, part in parts.items()
            for _ in range(len(part.images))
        ],
        columns={
            column: [value for part in parts.values() for value in part.columns[column]]
            for column in next(iter(parts.values())).columns
            if all(column in part.columns for part in parts.values())
        }
        if parts
        else None,
        name=name,
        version=version,
    )


class _Joined:
    """Images of several data sets, one after the other."""

    def __init__(self, parts: Sequence[Indexed]) -> None:
        self._parts = parts
        self._ends = list(accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Any:
        part = bisect_right(self._ends, index)
        return self._parts[part][index - (self._ends[part - 1] if part else 0)]


def split_name(data: str, prefix: str) -> list[str]:
    """Return the words of a name such as ``tv:CIFAR10:data``, without the prefix; a drive's colon separates none.

    Raises:
        SourceError: There is no name after the prefix.
    """
    name, _, rest = data.removeprefix(prefix).partition(":")
    if not name:
        raise SourceError(f"{data}: expected a name after {prefix}")
    return [name, rest] if rest else [name]
