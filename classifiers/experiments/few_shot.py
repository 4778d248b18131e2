"""Few-shot accuracy of a head that is fitted to k labelled images per class."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from frostline.classifiers.errors import HeadError, SplitError
from frostline.classifiers.experiments.subsets import Subset, Trial, distinct_images, evaluate_subsets
from frostline.classifiers.fitting.inputs import DEFAULTS, FitOptions, LabelledRows
from frostline.classifiers.heads.catalog import find_head


@dataclass(frozen=True)
class ShotScore:
    """Accuracy with one number of shots.

    Attributes:
        shots: Number of labelled images per class.
        accuracy: Mean accuracy over episodes.
        low: Lower end of the t interval of the mean, over episodes on these validation images.
        high: Upper end of the t interval of the mean.
        wide_low: Lower end of an interval that also covers other validation images. Its variance is the sum of the
            variances of the mean over episodes and over images.
        wide_high: Upper end of the interval that also covers other validation images.
        deviation: Standard deviation between episodes.
        episodes: Accuracy of each episode.
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
        params: All parameters of the head, which are the same in every episode.
        scores: One score per number of shots, in ascending order.
        rows: Number of validation rows that every episode is evaluated on.
        confidence: Coverage of the intervals.
        resumed: Number of episodes that were read from the journal.
        journal: File of finished episodes; None without a journal.
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
    """Fit a head to k training images per class, repeatedly, and evaluate it on all validation rows.

    The parameters of the head are fixed, because k labelled images leave none to choose parameters on. An episode
    draws different images (one row for all copies of an image). The images for more shots include those for fewer,
    so that numbers of shots, and heads with equal seeds, are compared on the same draws. Only train and val rows
    are read.

    Args:
        name: Kind of head; see `frostline.classifiers.heads.catalog.find_head`.
        rows: Training rows to draw from, and validation rows to evaluate on.
        options: Parameters other than the defaults of the head, seed of the draws and of the heads, and device.
        content: (n, 16) digests of the image bytes.
        shots: Numbers of images per class.
        episodes: Draws per number of shots, at least 2.
        confidence: Coverage of the intervals.
        jobs: Number of processes; None for the setting of joblib's `parallel_config`.
        key: Identifier of X, for the journal.
        journal: File stem for finished episodes, from which an interrupted computation resumes. The caller deletes
            ``FewShot.journal``.
        progress: Called with the number of episodes just finished.

    Returns:
        One score per number of shots.

    Raises:
        HeadError: The head or a parameter is unknown, or a number is out of range.
        SplitError: There are no validation rows, or a class has fewer different training images than shots.
    """
    kind = find_head(name, options.trusted)
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
    evaluated = evaluate_subsets(trial, subsets, key=key, journal=journal, jobs=jobs, progress=progress)
    blocks = evaluated.correct.reshape(len(sizes), episodes, len(rows.val))
    scores = tuple(_score(size, block, confidence) for size, block in zip(sizes, blocks, strict=True))
    return FewShot(options.params, scores, len(rows.val), confidence, evaluated.resumed, evaluated.journal)


def _check(sizes: Sequence[int], episodes: int, val: NDArray[np.int64], confidence: float) -> None:
    if not sizes or sizes[0] < 1:
        raise HeadError(f"shots: got {list(sizes)}, expected one or more numbers of at least 1")
    if episodes < 2:
        raise HeadError(f"episodes: got {episodes}, expected at least 2; an interval needs several draws")
    if not len(val):
        raise SplitError("no validation rows to evaluate episodes on; add a val split to the data")
    if not 0 < confidence < 1:
        raise HeadError(f"confidence: got {confidence}, expected a number between 0 and 1")


def _check_classes(by_class: Mapping[int, NDArray[np.int64]], most: int, classes: Sequence[str]) -> None:
    least = min(by_class, key=lambda label: len(by_class[label]))
    if len(by_class[least]) < most:
        raise SplitError(
            f"shots: got {most}, but {classes[least]!r} has only {len(by_class[least])} different training images; "
            "ask for fewer shots, or add images of it"
        )


def _score(shots: int, correct: NDArray[np.bool_], confidence: float) -> ShotScore:
    """Return the score of (episodes, rows) outcomes."""
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
