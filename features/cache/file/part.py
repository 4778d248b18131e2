"""A part of a cache: a run of whole blocks, in a file of its own, for several processes to share the work."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from frostline.features.errors import PartError


@dataclass(frozen=True, order=True)
class Part:
    """One of several parts of nearly the same size.

    Attributes:
        number: Which, from 1.
        count: Of how many.

    Raises:
        PartError: There is no such part.
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
        """Read ``i/N``, the first part being 1/N.

        Raises:
            PartError: The text is something else.
        """
        match = re.fullmatch(r"(\d{1,6})/([1-9]\d{0,5})", text, re.ASCII)
        if not match:
            raise PartError(f"part {text!r}: expected i/N, as in 1/4 for the first of four")
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self | None:
        """The part of a process that `torchrun` or another launcher started beside others; None where it is alone.

        Raises:
            PartError: ``RANK`` and ``WORLD_SIZE`` are no such numbers.
        """
        rank, size = environment.get("RANK"), environment.get("WORLD_SIZE", "1")
        if rank is None or size == "1":
            return None
        if not (rank.isdecimal() and size.isdecimal()):
            raise PartError(f"RANK is {rank!r} and WORLD_SIZE {size!r}; expected whole numbers, or neither")
        return cls(int(rank) + 1, int(size))

    def path(self, cache: Path) -> Path:
        """Where the part of a cache lies: ``NAME.h5.part-1-of-4``."""
        return cache.with_name(f"{cache.name}.part-{self.number}-of-{self.count}")

    def rows(self, rows: int, block_rows: int) -> slice:
        """Its rows of the whole's, without a block cut in two.

        Raises:
            PartError: There are fewer blocks than parts.
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
    """Finished parts of a cache, of any division."""
    pattern = re.compile(re.escape(cache.name) + r"\.part-\d+-of-\d+")
    folder = cache.parent
    return (
        sorted(item for item in folder.iterdir() if pattern.fullmatch(item.name)) if folder.exists() else []
    )


@dataclass(frozen=True)
class PartOf:
    """Which part a file is, and of what.

    Attributes:
        part: Which.
        whole: Digest of the whole's table; parts of one whole have the same.
    """

    part: Part
    whole: str
