"""Parts of a cache: ranges of whole blocks in separate files, so that several processes can share the work."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from frostline.features.errors import PartError


@dataclass(frozen=True, order=True)
class Part:
    """One of several parts of nearly equal size.

    Attributes:
        number: Number of the part, starting at 1.
        count: Total number of parts.

    Raises:
        PartError: The number is not between 1 and the count.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise PartError(f"part {self}: expected a number from 1 to {self.count}, as in 1/{self.count}")

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``i/N``. The first part is 1/N.

        Raises:
            PartError: The text has another form.
        """
        match = re.fullmatch(r"(\d{1,6})/([1-9]\d{0,5})", text, re.ASCII)
        if not match:
            raise PartError(f"part {text!r}: expected i/N, as in 1/4 for the first of four")
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self | None:
        """Return the part of a process that `torchrun` or another launcher started; None for a single process.

        Raises:
            PartError: ``RANK`` or ``WORLD_SIZE`` is not a whole number.
        """
        rank, size = environment.get("RANK"), environment.get("WORLD_SIZE", "1")
        if rank is None or size == "1":
            return None
        if not (rank.isdecimal() and size.isdecimal()):
            raise PartError(f"RANK is {rank!r} and WORLD_SIZE {size!r}; expected whole numbers, or neither")
        return cls(int(rank) + 1, int(size))

    def path(self, cache: Path) -> Path:
        """Return the path of this part of a cache: ``NAME.h5.part-1-of-4``."""
        return cache.with_name(f"{cache.name}.part-{self.number}-of-{self.count}")

    def rows(self, rows: int, block_rows: int) -> slice:
        """Return the range of rows in this part. Blocks are never split.

        Args:
            rows: Number of rows of the whole cache.
            block_rows: Rows per block.

        Raises:
            PartError: The cache has fewer blocks than parts.
        """
        blocks = -(-rows // block_rows)
        if blocks < self.count:
            raise PartError(
                f"part {self}: {rows} images are {blocks} blocks of {block_rows}, too few for {self.count} parts; "
                f"use at most {blocks}"
            )
        first, stop = (
            (number * blocks // self.count) * block_rows for number in (self.number - 1, self.number)
        )
        return slice(first, min(stop, rows))


def part_paths(cache: Path) -> list[Path]:
    """Return the paths of all finished parts of a cache, for any number of parts."""
    pattern = re.compile(re.escape(cache.name) + r"\.part-\d+-of-\d+")
    folder = cache.parent
    return (
        sorted(item for item in folder.iterdir() if pattern.fullmatch(item.name)) if folder.exists() else []
    )


def whole_path(part: Path) -> Path:
    """Return the path of the cache that a part with this path belongs to; see `Part.path`."""
    return part.with_name(re.sub(r"\.part-\d+-of-\d+$", "", part.name))


@dataclass(frozen=True)
class PartOf:
    """Part that a file holds, and the cache that it belongs to.

    Attributes:
        part: The part.
        whole: Digest of the table of the whole cache, equal for all of its parts.
    """

    part: Part
    whole: str
