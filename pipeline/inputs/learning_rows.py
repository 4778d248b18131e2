"""The rows that a training may learn from, looked over before anything is learnt."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.fitting.inputs import LabelledRows
from frostline.classifiers.protocol.folds import assign_folds
from frostline.pipeline.errors import RunError
from frostline.pipeline.inputs.labelled_images import LabelledImages, split_rows
from frostline.pipeline.inputs.leaks import refuse_leaks
from frostline.pipeline.progress import Reporter
from frostline.splits import Split

Images = TypeVar("Images", bound=LabelledImages)


@dataclass(frozen=True)
class LearningRows(Generic[Images]):
    """Training and validation rows; of the test rows only how many there are.

    Attributes:
        images: The cache, or other images, that the rows are of.
        train: Rows to fit.
        val: Rows to choose and to judge on.
        counts: Labelled, readable rows in each split.
        problems: What a user should know, one sentence each.
    """

    images: Images
    train: NDArray[np.int64]
    val: NDArray[np.int64]
    counts: Mapping[str, int]
    problems: tuple[str, ...]

    @classmethod
    def of(cls, images: Images, fractions: tuple[float, float, float], report: Reporter) -> Self:
        """Divide rows, and warn of what is odd about them.

        Raises:
            SplitError: No labelled row, or a class that has none to train on.
            LeakError: The same image bytes, or one group, in more than one split.
        """
        split, found = split_rows(images, fractions)
        problems = (*found.problems, *refuse_leaks(images, split))
        for problem in problems:
            report.warn(problem)
        train, val = np.flatnonzero(split == Split.TRAIN), np.flatnonzero(split == Split.VAL)
        counts = {"train": len(train), "val": len(val), "test": int((split == Split.TEST).sum())}
        return cls(images, train, val, counts, problems)

    @property
    def read(self) -> NDArray[np.int64]:
        """All rows that may be read."""
        return np.union1d(self.train, self.val)

    @property
    def digest(self) -> str:
        """Of the images that are read."""
        return hashlib.sha256(self.images.content[self.read].tobytes()).hexdigest()

    def labelled(self, X: Any) -> LabelledRows:
        """Return these rows of features, (n, d), with their labels."""
        return LabelledRows(X, self.images.labels, self.train, self.val, self.images.classes)

    def folds(self, cv: int | None) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Rows to fit and rows to judge: the splits themselves, or `cv` folds of both."""
        if cv is None:
            if not len(self.val):
                raise RunError(f"{self.images.path} has no validation rows to search on; pass --cv K.")
            return [(self.train, self.val)]
        rows = self.read
        fold = assign_folds(self.images.content[rows], self.images.groups[rows], cv)
        return [(rows[fold != number], rows[fold == number]) for number in range(cv)]
