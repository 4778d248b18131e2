"""Learning curves: accuracy against the number of training images, and a forecast for more images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.errors import HeadError, SplitError
from frostline.classifiers.experiments.power_law import PowerLaw, fit_power_laws
from frostline.classifiers.experiments.subsets import Subset, Trial, distinct_images, evaluate_subsets
from frostline.classifiers.fitting.inputs import DEFAULTS, FitOptions, LabelledRows
from frostline.classifiers.heads.catalog import find_head
from frostline.classifiers.protocol.folds import assign_folds

_LEAST_PER_CLASS = 2  # rows of a class, on average, in the smallest subset
_BOOTSTRAP = 1000
_LEAST_SIZES = 3  # smallest number of sizes that a power law is fitted to
_MISFIT = 0.002  # standard deviation of a curve from a power law at each point: a fifth of a percentage point
_WORTHWHILE = (
    0.005  # smallest gain of accuracy from twice the images that counts as help: half a percentage point
)


@dataclass(frozen=True)
class CurvePoint:
    """Accuracy with one number of training images.

    Attributes:
        images: Number of training images.
        accuracy: Mean accuracy over draws.
        low: Lower end of the bootstrap interval of the mean, over draws and validation images.
        high: Upper end of the bootstrap interval of the mean.
        draws: Accuracy of each draw.
    """

    images: int
    accuracy: float
    low: float
    high: float
    draws: tuple[float, ...]


@dataclass(frozen=True)
class Forecast:
    """Expected accuracy with twice the training images, by power laws fitted to the errors.

    Power laws are fitted to the last three sizes, to the last four and so on up to all sizes, because a law that
    holds for few images may not hold for many. The forecast is the median gain. The interval is the union of the
    bootstrap intervals of all laws. It is valid if the errors follow one of the laws.
    `benchmarks/resampling.py` measures its coverage.

    Attributes:
        law: Power law with the median gain.
        images: Twice the present number of images.
        accuracy: Expected accuracy with twice the images.
        gain: Expected gain over the accuracy of the law with the present images.
        low: Lower end of the interval of the gain.
        high: Upper end of the interval of the gain.
        last_point_error: Predicted minus observed accuracy at the last point, for the law fitted without that point.
    """

    law: PowerLaw
    images: int
    accuracy: float
    gain: float
    low: float
    high: float
    last_point_error: float


@dataclass(frozen=True)
class LearningCurve:
    """Accuracy of a head against the number of training images.

    Attributes:
        points: Points of the curve, in ascending order of images.
        forecast: Forecast for twice the images; None with fewer than five points.
        answer: Sentence that answers whether more data would help.
        rows: Number of validation rows that heads are evaluated on.
        confidence: Coverage of the intervals.
        resumed: Number of subsets that were read from the journal.
        journal: File of finished subsets; None without a journal.
    """

    points: tuple[CurvePoint, ...]
    forecast: Forecast | None
    answer: str
    rows: int
    confidence: float
    resumed: int
    journal: Path | None


def learning_curve(
    name: str,
    rows: LabelledRows,
    options: FitOptions = DEFAULTS,
    *,
    content: NDArray[np.uint8],
    groups: NDArray[Any],
    points: int = 8,
    draws: int = 5,
    confidence: float = 0.95,
    jobs: int | None = None,
    key: str = "",
    journal: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> LearningCurve:
    """Fit a head to all training images, to a half, to a quarter and so on, and evaluate it on validation rows.

    Each draw shuffles the images of each class, with one row for all copies of an image, and takes the same share
    of all classes. Smaller subsets of a draw are contained in its larger ones. Parameters that are not fixed are
    chosen on one half of the validation rows and evaluated on the other half, and vice versa. Copies and groups
    stay in one half. Every validation row is therefore predicted by a head that was chosen without it. Only train
    and val rows are read.

    Args:
        name: Kind of head; see `frostline.classifiers.heads.catalog.find_head`.
        rows: Training rows, and validation rows to choose and to evaluate on.
        options: Fixed parameters, seed of the orders and of the heads, and device.
        content: (n, 16) digests of the image bytes.
        groups: (n,) groups, empty for no group.
        points: Largest number of sizes. Sizes with fewer than two images per class on average are omitted.
        draws: Number of random orders, at least 2.
        confidence: Coverage of the intervals.
        jobs: Number of processes; None for the setting of joblib's `parallel_config`.
        key: Identifier of X, for the journal.
        journal: File stem for finished subsets, from which an interrupted computation resumes. The caller deletes
            ``LearningCurve.journal``.
        progress: Called with the number of subsets just finished.

    Returns:
        The points of the curve, and the forecast.

    Raises:
        HeadError: The head or a parameter is unknown, or a number is out of range.
        SplitError: There are too few validation rows, or training images of one class only.
    """
    kind = find_head(name, options.trusted)
    options = options.checked(kind)
    if points < 2 or draws < 2 or not 0 < confidence < 1:
        raise HeadError(
            f"got {points} points, {draws} draws and confidence {confidence}, expected at least 2, at least 2, and a number between 0 and 1"
        )
    if not len(rows.val):
        raise SplitError("no validation rows to evaluate on; add a val split to the data")
    orders = [distinct_images(rows.train, rows.y, content, options.seed, draw) for draw in range(draws)]
    shares = _shares(orders[0], points)
    subsets = [_subset(order, share, draw) for share in shares[:-1] for draw, order in enumerate(orders)]
    subsets.append(_subset(orders[0], 1.0, 0))  # all images are one subset in any order
    chooses = kind.search == "epochs" or len(kind.candidates(options.params, len(subsets[0].rows))) > 1
    sides = _halves(rows.val, content, groups) if chooses else ((np.empty(0, np.int64), rows.val),)
    trial = Trial(kind, rows, sides, options)
    evaluated = evaluate_subsets(trial, subsets, key=key, journal=journal, jobs=jobs, progress=progress)
    correct = evaluated.correct[:-1].reshape(len(shares) - 1, draws, len(rows.val))
    correct = np.concatenate([correct, np.repeat(evaluated.correct[None, -1:], draws, axis=1)])
    images = [len(subset.rows) for subset in subsets[::draws]]
    samples = _resample(correct, options.seed)
    curve = _points(images, correct, samples, confidence)
    forecast = _forecast(curve, samples, confidence) if len(curve) > 4 else None
    return LearningCurve(
        curve,
        forecast,
        _answer(forecast, len(curve), confidence),
        len(rows.val),
        confidence,
        evaluated.resumed,
        evaluated.journal,
    )


def _shares(order: Mapping[int, NDArray[np.int64]], points: int) -> list[float]:
    """Return the shares 1, 1/2, 1/4 ... of the images, in ascending order."""
    images = sum(map(len, order.values()))
    most = 1
    while most < points and images / 2**most >= _LEAST_PER_CLASS * len(order):
        most += 1
    if most < 2:
        raise SplitError(
            f"got {images} different training images of {len(order)} classes, expected at least "
            f"{2 * _LEAST_PER_CLASS} per class for a curve"
        )
    return [2.0**-step for step in reversed(range(most))]


def _subset(order: Mapping[int, NDArray[np.int64]], share: float, draw: int) -> Subset:
    parts = [rows[: max(1, round(share * len(rows)))] for rows in order.values()]
    rows = np.sort(np.concatenate(parts))
    return Subset(len(rows), draw, rows)


def _halves(
    val: NDArray[np.int64], content: NDArray[np.uint8], groups: NDArray[Any]
) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], ...]:
    """Return pairs of rows to choose on and rows to evaluate on, in both directions."""
    fold = assign_folds(content[val], groups[val], 2)
    one, other = val[fold == 0], val[fold == 1]
    return (one, other), (other, one)


def _resample(correct: NDArray[np.bool_], seed: int) -> NDArray[np.float64]:
    """Return (bootstrap, sizes) accuracies of resampled draws and validation rows, the same for every size."""
    rng = np.random.default_rng(seed)
    _, draws, rows = correct.shape
    of_draws = rng.multinomial(draws, np.full(draws, 1 / draws), _BOOTSTRAP).astype(np.float64)
    of_rows = rng.multinomial(rows, np.full(rows, 1 / rows), _BOOTSTRAP).astype(np.float64)
    by_draw = np.stack([each.astype(np.float64) @ of_rows.T for each in correct])
    samples: NDArray[np.float64] = np.einsum("bd,sdb->bs", of_draws, by_draw) / (draws * rows)
    return samples


def _points(
    images: Sequence[int], correct: NDArray[np.bool_], samples: NDArray[np.float64], confidence: float
) -> tuple[CurvePoint, ...]:
    tail = (1 - confidence) / 2
    ends = np.quantile(samples, (tail, 1 - tail), axis=0).T.tolist()
    accuracies = correct.mean(axis=2)
    return tuple(
        CurvePoint(count, float(each.mean()), low, high, tuple(each.tolist()))
        for count, each, (low, high) in zip(images, accuracies, ends, strict=True)
    )


def _forecast(points: Sequence[CurvePoint], samples: NDArray[np.float64], confidence: float) -> Forecast:
    images = np.array([point.images for point in points], np.float64)
    accuracies = np.array([[point.accuracy for point in points]])
    covariance = np.cov(samples.T) + _MISFIT**2 * np.eye(len(points))
    last = points[-1]
    # A law that holds for few images may not hold for many: fit the last three sizes, the last four and so on.
    tail = (1 - confidence) / 2
    laws, ends = [], []
    for first in range(len(points) - _LEAST_SIZES + 1):
        part, own = slice(first, None), covariance[first:, first:]
        laws += fit_power_laws(images[part], 1 - accuracies[:, part], own)
        gains = [
            _doubled(law, last.images) for law in fit_power_laws(images[part], 1 - samples[:, part], own)
        ]
        ends.append(np.quantile(gains, (tail, 1 - tail)))
    law = sorted(laws, key=lambda each: _doubled(each, last.images))[len(laws) // 2]
    gain = _doubled(law, last.images)
    low, high = float(np.min(ends)), float(np.max(ends))
    (earlier,) = fit_power_laws(images[:-1], 1 - accuracies[:, :-1], covariance[:-1, :-1])
    last_point_error = 1 - earlier.error(last.images) - last.accuracy
    return Forecast(
        law=law,
        images=2 * last.images,
        accuracy=min(1.0, last.accuracy + gain),
        gain=gain,
        low=min(low, gain),
        high=max(high, gain),
        last_point_error=last_point_error,
    )


def _doubled(law: PowerLaw, images: int) -> float:
    """Return the gain of accuracy from twice the images."""
    return law.error(images) - law.error(2 * images)


def _answer(forecast: Forecast | None, points: int, confidence: float) -> str:
    if forecast is None:
        return (
            f"{points} sizes are too few to forecast whether more data would help; at least five are needed."
        )
    if forecast.low >= _WORTHWHILE:
        verdict = "More data would help"
    elif forecast.high < _WORTHWHILE:
        verdict = "More data would hardly help"
    else:
        verdict = "It is uncertain whether more data would help"
    return (
        f"{verdict}: twice the images ({forecast.images}) would change accuracy by {100 * forecast.gain:+.1f} points, to "
        f"{forecast.accuracy:.3f} ({confidence:.0%} interval of the change {100 * forecast.low:+.1f} to "
        f"{100 * forecast.high:+.1f}; help means half a point or more). The same forecast, made without the last point, was off "
        f"by {100 * forecast.last_point_error:+.1f} points there."
    )
