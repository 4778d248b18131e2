"""Training and validation rows, validated before training."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.fitting.inputs import LabelledRows
from frostline.classifiers.protocol.folds import assign_folds
from frostline.pipeline.errors import RunError
from frostline.pipeline.inputs.labelled_images import CLASS_RULE, LabelledImages, Rule, split_rows
from frostline.pipeline.inputs.leaks import refuse_leaks
from frostline.pipeline.progress import Reporter
from frostline.splits import Split

Images = TypeVar("Images", bound=LabelledImages)


@dataclass(frozen=True)
class LearningRows(Generic[Images]):
    """Training and validation rows, and the rows held out as test rows.

    Attributes:
        images: The cache or image set that the rows belong to.
        train: (n,) int64 rows to fit on.
        val: (m,) int64 rows to select and score on.
        test: (k,) int64 rows that the run records, to be recognised when it is evaluated, and that nothing else reads.
        rule: Version of the rule of division; see `split_rows`.
        counts: Number of labelled, readable rows in each split.
        problems: Warnings about the splits, one sentence each.
    """

    images: Images
    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]
    rule: Rule
    counts: Mapping[str, int]
    problems: tuple[str, ...]

    @classmethod
    def of(
        cls,
        images: Images,
        fractions: tuple[float, float, float],
        report: Reporter,
        *,
        rule: Rule = CLASS_RULE,
        known: NDArray[np.uint8] | None = None,
    ) -> Self:
        """Split the rows of `images` like `split_rows` and report problems as warnings.

        Raises:
            SplitError: No row is labelled, or a class has no training rows.
            LeakError: The same image bytes, or one group, are in more than one split.
        """
        split, found = split_rows(images, fractions, rule=rule, known=known)
        problems = (*found.problems, *refuse_leaks(images, split))
        for problem in problems:
            report.warn(problem)
        train, val, test = (np.flatnonzero(split == code) for code in (Split.TRAIN, Split.VAL, Split.TEST))
        counts = {"train": len(train), "val": len(val), "test": len(test)}
        return cls(images, train, val, test, rule, counts, problems)

    @property
    def read(self) -> NDArray[np.int64]:
        """Training and validation rows, sorted."""
        return np.union1d(self.train, self.val)

    @property
    def digest(self) -> str:
        """SHA-256 digest of the training and validation images."""
        return hashlib.sha256(self.images.content[self.read].tobytes()).hexdigest()

    def labelled(self, X: Any) -> LabelledRows:
        """Return the (n, d) features `X` together with the labels and these rows."""
        return LabelledRows(X, self.images.labels, self.train, self.val, self.images.classes)

    def folds(self, cv: int | None) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Return pairs of rows to fit and rows to score: train and val, or `cv` folds of both.

        Raises:
            RunError: `cv` is None and there are no validation rows.
        """
        if cv is None:
            if not len(self.val):
                raise RunError(f"{self.images.path} has no validation rows to search on; pass --cv K.")
            return [(self.train, self.val)]
        rows = self.read
        fold = assign_folds(self.images.content[rows], self.images.groups[rows], cv)
        return [(rows[fold != number], rows[fold == number]) for number in range(cv)]
