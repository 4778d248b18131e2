"""Accuracy of a head that learns from k labelled images of each class."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from frostline.classifiers.errors import HeadError, SplitError
from frostline.classifiers.experiments.subsets import Subset, Trial, distinct_images, judge_subsets
from frostline.classifiers.fitting.inputs import DEFAULTS, FitOptions, LabelledRows
from frostline.classifiers.heads.catalog import find_head


@dataclass(frozen=True)
class ShotScore:
    """Accuracy with one number of shots.

    Attributes:
        shots: Labelled images of each class.
        accuracy: Mean over episodes.
        low: Lower end of the t interval of that mean, over episodes on these validation images.
        high: Its upper end.
        wide_low: Lower end of an interval that also covers other validation images: the variances of the mean over
            episodes and over images, added.
        wide_high: Its upper end.
        deviation: Standard deviation between episodes.
        episodes: Accuracy of each.
    """

    shots: int
    accuracy: float
    low: float
    high: float
    wide_low: float
    wide_high: float
    deviation: float
    episodes: tuple[float, ...]


@dataclass(frozen=True)
class FewShot:
    """Few-shot accuracies of a head.

    Attributes:
        params: All of the head's parameters; the same in every episode.
        scores: One per number of shots, ascending.
        rows: Validation rows that judged every episode.
        confidence: Coverage of the intervals.
        resumed: Episodes that the journal already had.
        journal: The file of finished episodes; None where none was asked for.
    """

    params: Mapping[str, Any]
    scores: tuple[ShotScore, ...]
    rows: int
    confidence: float
    resumed: int
    journal: Path | None


def few_shot(
    name: str,
    rows: LabelledRows,
    options: FitOptions = DEFAULTS,
    *,
    content: NDArray[np.uint8],
    shots: Sequence[int] = (1, 5),
    episodes: int = 100,
    confidence: float = 0.95,
    jobs: int | None = None,
    key: str = "",
    journal: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> FewShot:
    """Fit a head to k training images of each class, many times over, and judge it on all validation rows.

    The head's parameters are fixed: whoever has k labelled images has none left to choose them on. An episode draws
    different images (one row for all copies of one); what it draws for more shots holds what it draws for fewer, so that
    numbers of shots, and heads of equal seed, are compared on the same draws. Only train and val rows are read.

    Args:
        name: Kind of head; see `classifiers.heads.catalog.find_head`.
        rows: Rows to draw from, and rows that judge.
        options: Parameters other than the head's defaults, seed of the draws and of the heads, and device.
        content: (n, 16) digests of the image bytes.
        shots: Images of each class.
        episodes: Draws for each number of shots, at least 2.
        confidence: Coverage of the intervals.
        jobs: Processes; None for what joblib's `parallel_config` says.
        key: What identifies X, for the journal.
        journal: File stem for finished episodes; what was killed goes on from there. The caller deletes
            ``FewShot.journal``.
        progress: Called with the number of episodes just finished.

    Raises:
        HeadError: No such head or parameter, or numbers out of range.
        SplitError: No validation rows, or a class with fewer different training images than shots.
    """
    kind = find_head(name)
    options = replace(options, params=kind.complete(kind.check(options.params)))
    sizes = sorted(set(shots))
    _check(sizes, episodes, rows.val, confidence)
    draws = [distinct_images(rows.train, rows.y, content, options.seed, draw) for draw in range(episodes)]
    _check_classes(draws[0], sizes[-1], rows.classes)
    subsets = [
        Subset(size, draw, np.sort(np.concatenate([images[:size] for images in by_class.values()])))
        for size in sizes
        for draw, by_class in enumerate(draws)
    ]
    nothing = np.empty(0, np.int64)
    trial = Trial(kind, rows, ((nothing, rows.val),), options)
    judged = judge_subsets(trial, subsets, key=key, journal=journal, jobs=jobs, progress=progress)
    blocks = judged.correct.reshape(len(sizes), episodes, len(rows.val))
    scores = tuple(_score(size, block, confidence) for size, block in zip(sizes, blocks, strict=True))
    return FewShot(options.params, scores, len(rows.val), confidence, judged.resumed, judged.journal)


def _check(sizes: Sequence[int], episodes: int, val: NDArray[np.int64], confidence: float) -> None:
    if not sizes or sizes[0] < 1:
        raise HeadError(f"shots: got {list(sizes)}, expected one or more numbers of at least 1")
    if episodes < 2:
        raise HeadError(f"episodes: got {episodes}, expected at least 2; an interval needs several draws")
    if not len(val):
        raise SplitError("no validation rows to judge episodes on; give the data a val split")
    if not 0 < confidence < 1:
        raise HeadError(f"confidence: got {confidence}, expected a share between 0 and 1")


def _check_classes(by_class: Mapping[int, NDArray[np.int64]], most: int, classes: Sequence[str]) -> None:
    least = min(by_class, key=lambda label: len(by_class[label]))
    if len(by_class[least]) < most:
        raise SplitError(
            f"shots: got {most}, but {classes[least]!r} has only {len(by_class[least])} different training images; "
            "ask for fewer shots, or add images of it"
        )


def _score(shots: int, correct: NDArray[np.bool_], confidence: float) -> ShotScore:
    """Of (episodes, rows) outcomes."""
    accuracies = correct.mean(axis=1)
    count, images = correct.shape
    mean, deviation = float(accuracies.mean()), float(accuracies.std(ddof=1))
    error = deviation / math.sqrt(count)
    by_image = float(correct.mean(axis=0).var()) / images
    reach = float(stats.t.ppf((1 + confidence) / 2, count - 1))
    narrow, wide = reach * error, reach * math.sqrt(error**2 + by_image)
    return ShotScore(
        shots=shots,
        accuracy=mean,
        low=max(0.0, mean - narrow),
        high=min(1.0, mean + narrow),
        wide_low=max(0.0, mean - wide),
        wide_high=min(1.0, mean + wide),
        deviation=deviation,
        episodes=tuple(accuracies.tolist()),
    )
