"""The rows of a cache that a head may learn from, looked over before anything is learnt."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from classifiers.folds import assign_folds
from classifiers.splits import TEST, TRAIN, VAL
from pipeline.caches import AnyCache
from pipeline.checking import guard_splits
from pipeline.errors import RunError
from pipeline.reporting import Reporter
from pipeline.training_rows import split_rows

__all__ = ["LearningRows"]


@dataclass(frozen=True)
class LearningRows:
    """Training and validation rows; of the test rows only how many there are.

    Attributes:
        cache: The cache.
        train: Rows to fit.
        val: Rows to choose and to judge on.
        counts: Labelled, readable rows in each split.
        problems: What a user should know, one sentence each.
    """

    cache: AnyCache
    train: NDArray[np.int64]
    val: NDArray[np.int64]
    counts: Mapping[str, int]
    problems: tuple[str, ...]

    @classmethod
    def of(cls, cache: AnyCache, fractions: tuple[float, float, float], report: Reporter) -> Self:
        """Divide a cache's rows, and warn of what is odd about them.

        Raises:
            SplitError: No labelled row, or a class that has none to train on.
            LeakError: The same image bytes, or one group, in more than one split.
        """
        split, found = split_rows(cache, fractions)
        problems = (*found.problems, *guard_splits(cache, split))
        for problem in problems:
            report.warn(problem)
        train, val = np.flatnonzero(split == TRAIN), np.flatnonzero(split == VAL)
        counts = {"train": len(train), "val": len(val), "test": int((split == TEST).sum())}
        return cls(cache, train, val, counts, problems)

    @property
    def read(self) -> NDArray[np.int64]:
        """All rows that may be read."""
        return np.union1d(self.train, self.val)

    def folds(self, cv: int | None) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Rows to fit and rows to judge: the splits themselves, or `cv` folds of both."""
        if cv is None:
            if not len(self.val):
                raise RunError(f"{self.cache.path} has no validation rows to search with; give --cv K.")
            return [(self.train, self.val)]
        rows = self.read
        fold = assign_folds(self.cache.content[rows], self.cache.groups[rows], cv)
        return [(rows[fold != number], rows[fold == number]) for number in range(cv)]

    def key(self, layer: str) -> str:
        """Digest of the features that are read."""
        content = self.cache.content[self.read].tobytes()
        return f"{self.cache.key} {layer} {hashlib.sha256(content).hexdigest()}"
