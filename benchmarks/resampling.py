"""Measure how often the 95 % intervals of `compare_heads`, `few_shot` and `learning_curve` contain the true value.

Rows of Gaussian classes are drawn repeatedly, and a head is judged on each draw as the commands do it. The table shows
the percentage of draws in which each interval contains the truth, with the mean error of its middle. The truth is
computed on many rows that no head has seen:

- ``compare_heads``: the accuracy, and the difference of two heads, expected for training sets of a fold's size.
- ``few_shot``: the accuracy expected of draws from the same training images, on the same validation rows
  ("over episodes") and on others ("other images, too").
- ``learning_curve``: the accuracy expected of subsets of the same training images on other rows, and the gain from twice
  the images, expected of other training images.

    python -m benchmarks.resampling                # 300 draws each: ten minutes on one core
    python -m benchmarks.resampling --samples 60   # half as exact: two minutes

With 300 draws the standard error of a coverage of 95 % is 1.3 percentage points.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeClassifier
from sklearn.neighbors import NearestCentroid

from frostline.classifiers.experiments.comparison import compare_heads
from frostline.classifiers.experiments.few_shot import few_shot
from frostline.classifiers.experiments.learning_curve import learning_curve
from frostline.classifiers.fitting.inputs import FitOptions, LabelledRows
from frostline.classifiers.heads.catalog import find_head

_CLASSES, _DIM, _UNSEEN = 5, 20, 20_000
_PARAMS = {"alpha": "10"}

Rows = tuple[NDArray[np.float32], NDArray[np.int64]]
Finding = tuple[str, float, float, float, float]

T = TypeVar("T")


class Population:
    """Gaussian classes that overlap, in directions of unlike variance."""

    def __init__(self, seed: int, separation: float) -> None:
        rng = np.random.default_rng(seed)
        self._centres = rng.normal(size=(_CLASSES, _DIM)) * separation
        self._widths = np.geomspace(0.5, 2, _DIM)
        self.unseen = self.draw(rng, _UNSEEN)

    def draw(self, rng: np.random.Generator, n: int) -> Rows:
        """(n, d) rows and their labels, of balanced classes."""
        y = rng.permutation(np.arange(n) % _CLASSES)
        return (self._centres[y] + rng.normal(size=(n, _DIM)) * self._widths).astype(np.float32), y


def _accuracy(estimator: object, rows: Rows, unseen: Rows) -> float:
    return float((estimator.fit(*rows).predict(unseen[0]) == unseen[1]).mean())  # type: ignore[attr-defined]


def comparisons(population: Population, rng: np.random.Generator, samples: int) -> Iterator[Finding]:
    """Accuracies and differences of two heads, from 200 rows in 5 folds."""
    heads = {"ridge": RidgeClassifier(10), "centroid": NearestCentroid()}
    sets = [population.draw(rng, 160) for _ in range(200)]
    truth = {
        name: float(np.mean([_accuracy(head, rows, population.unseen) for rows in sets]))
        for name, head in heads.items()
    }
    for sample in range(samples):
        found = compare_heads(*population.draw(rng, 200), heads, seed=sample)
        for score in found.scores:
            yield f"compare: {score.head}", truth[score.head], score.accuracy, score.low, score.high
        (pair,) = found.pairs
        yield (
            "compare: difference",
            truth[pair.better] - truth[pair.worse],
            pair.difference,
            pair.low,
            pair.high,
        )


def _cut(*parts: Rows) -> tuple[Rows, list[NDArray[np.int64]]]:
    """All rows together, and the places of each part."""
    ends = np.cumsum([len(y) for _, y in parts])
    places = [np.arange(end - len(y), end) for end, (_, y) in zip(ends, parts, strict=True)]
    return (np.concatenate([X for X, _ in parts]), np.concatenate([y for _, y in parts])), places


def _judge(
    measure: Callable[..., T], rows: Rows, train: NDArray[np.int64], val: NDArray[np.int64], **options: Any
) -> T:
    X, y = rows
    return measure(
        "ridge",
        LabelledRows(X, y, train, val, tuple(f"class {i}" for i in range(_CLASSES))),
        FitOptions(find_head("ridge").check(_PARAMS), seed=options.pop("seed")),
        content=np.arange(16 * len(y), dtype=np.uint32).view(np.uint8).reshape(-1, 64)[:, :16].copy(),
        jobs=1,
        **options,
    )


def episodes(population: Population, rng: np.random.Generator, samples: int) -> Iterator[Finding]:
    """5 shots in 20 episodes from 200 images, on 150 validation rows."""
    for sample in range(samples):
        parts = population.draw(rng, 200), population.draw(rng, 150)
        rows, (train, val) = _cut(*parts)
        found = _judge(few_shot, rows, train, val, shots=(5,), episodes=20, seed=sample).scores[0]
        same = _judge(few_shot, rows, train, val, shots=(5,), episodes=200, seed=10**6 + sample).scores[0]
        every, (train, unseen) = _cut(parts[0], population.unseen)
        true = _judge(few_shot, every, train, unseen, shots=(5,), episodes=60, seed=10**6 + sample).scores[0]
        yield "few_shot: over episodes", same.accuracy, found.accuracy, found.low, found.high
        yield "few_shot: other images, too", true.accuracy, found.accuracy, found.wide_low, found.wide_high


def curves(population: Population, rng: np.random.Generator, samples: int) -> Iterator[Finding]:
    """A curve to 320 images in 5 draws, on 200 validation rows, and the gain that it forecasts for 640."""
    head = RidgeClassifier(10)
    gains = [
        _accuracy(head, population.draw(rng, 640), population.unseen)
        - _accuracy(head, population.draw(rng, 320), population.unseen)
        for _ in range(100)
    ]
    gain = float(np.mean(gains))
    for sample in range(samples):
        parts = population.draw(rng, 320), population.draw(rng, 200)
        rows, (train, val) = _cut(*parts)
        alone = {"groups": np.full(len(rows[1]), ""), "points": 6}
        found = _judge(learning_curve, rows, train, val, draws=5, seed=sample, **alone)
        every, (train, unseen) = _cut(parts[0], population.unseen)
        alone["groups"] = np.full(len(every[1]), "")
        true = _judge(learning_curve, every, train, unseen, draws=30, seed=10**6 + sample, **alone)
        for point, truth in zip(found.points, true.points, strict=True):
            name = f"learning_curve: {point.images} images"
            yield name, truth.accuracy, point.accuracy, point.low, point.high
        forecast = found.forecast
        if forecast is None:
            raise ValueError("too few points for a forecast; raise the number of images")
        yield "learning_curve: gain", gain, forecast.gain, forecast.low, forecast.high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--samples", type=int, default=300, help="draws per line")
    samples = parser.parse_args().samples
    print(f"{'interval':<32} {'apart':>8} {'truth':>7} {'mean error':>10} {'width':>7} {'covers':>7}")
    for separation in (0.3, 1.0):
        population = Population(0, separation)
        for measure in (comparisons, episodes, curves):
            findings = defaultdict(list)
            for name, *numbers in measure(population, np.random.default_rng(1), samples):
                findings[name].append(numbers)
            for name, rows in findings.items():
                truth, value, low, high = np.array(rows).T
                covers = np.mean((low <= truth) & (truth <= high))
                print(
                    f"{name:<32} {separation:>8} {truth.mean():>7.3f} {np.mean(value - truth):>+10.4f} "
                    f"{np.mean(high - low):>7.3f} {covers:>7.1%}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
