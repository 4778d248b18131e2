"""Measure how often the 95 % intervals of `frostline.score` contain the value of the population.

Heads with known true probabilities are simulated, and `score` judges samples of their rows. The table shows the
percentage of samples in which each interval contains the truth, with the mean value beside it. The columns ``ece`` and
``bootstrap`` are the plug-in expected calibration error and its percentile interval less the estimated bias.

    python -m benchmarks.calibration                 # 3,000 samples per line: 45 minutes on one core
    python -m benchmarks.calibration --samples 300   # 3 times as coarse: 5 minutes

With 3,000 samples the standard error of a coverage of 95 % is 0.4 percentage points.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.protocol.calibration_error import BINS, bin_of
from frostline.classifiers.protocol.metrics import score

_POPULATION = 200_000
_RESAMPLES = 500
_NAMES = ("top1", "top5", "balanced_accuracy", "macro_f1", "log_loss", "rms_calibration_error")


@dataclass(frozen=True)
class Head:
    """A head whose logits are those of the true probabilities times a factor.

    Attributes:
        classes: Their number.
        factor: 1 for a calibrated head; more makes it surer than it is right.
        spread: Standard deviation of the true logits; more makes it more accurate.
        lead: By how much the true logit of one class, drawn per row, is raised; 6 makes a head that is hardly ever wrong.
    """

    classes: int
    factor: float
    spread: float
    lead: float = 0.0

    def population(self, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """True and said probabilities (n, k)."""
        logits = rng.normal(size=(_POPULATION, self.classes)) * self.spread
        logits[np.arange(_POPULATION), rng.integers(0, self.classes, _POPULATION)] += self.lead
        return _softmax(logits), _softmax(self.factor * logits)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = exponents / exponents.sum(axis=1, keepdims=True)
    return shares


def _truth(true: NDArray[np.float64], said: NDArray[np.float64]) -> dict[str, float]:
    """Every metric of the population, without noise of labels."""
    n, k = true.shape
    rows, predicted = np.arange(n), said.argmax(axis=1)
    confusion = np.zeros((k, k))
    for label in range(k):
        confusion[label] = np.bincount(predicted, true[:, label], k)
    support, total = confusion.sum(axis=1), confusion.sum(axis=1) + confusion.sum(axis=0)
    five = np.argsort(-said, axis=1, kind="stable")[:, :5]
    sure, right = said[rows, predicted], true[rows, predicted]
    place = bin_of(sure)
    gaps, counts = np.bincount(place, right - sure, BINS), np.bincount(place, minlength=BINS)
    return {
        "top1": float(right.mean()),
        "top5": float(np.take_along_axis(true, five, axis=1).sum(axis=1).mean()),
        "balanced_accuracy": float((confusion.diagonal() / support).mean()),
        "macro_f1": float((2 * confusion.diagonal() / total).mean()),
        "log_loss": float(-(true * np.log(np.maximum(said, np.finfo(np.float64).eps))).sum(axis=1).mean()),
        "rms_calibration_error": float(np.sqrt((gaps**2 / np.maximum(counts, 1)).sum() / n)),
        "ece": float(np.abs(gaps).sum() / n),
    }


def _ece(
    sure: NDArray[np.float64], hit: NDArray[np.bool_], counts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(m,) plug-in expected calibration errors of m weightings (n, m) of the rows."""
    gaps = np.zeros((BINS, len(sure)))
    gaps[bin_of(sure), np.arange(len(sure))] = hit - sure
    errors: NDArray[np.float64] = np.abs(gaps @ counts).sum(axis=0) / len(sure)
    return errors


def _measure(head: Head, n: int, samples: int) -> Iterator[tuple[str, float, float, float]]:
    """Name, truth, mean value and coverage of each metric."""
    rng = np.random.default_rng((head.classes, n))
    true, said = head.population(rng)
    truth = _truth(true, said)
    counts = rng.multinomial(n, np.full(n, 1 / n), _RESAMPLES).T.astype(np.float64)
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in (*_NAMES, "ece")}
    for _ in range(samples):
        rows = rng.integers(0, _POPULATION, n)
        drawn = rng.random((n, 1)) > true[rows].cumsum(axis=1)
        y, proba = drawn.sum(axis=1).clip(max=head.classes - 1), said[rows]
        metrics = score(y, proba, classes=[str(label) for label in range(head.classes)])
        for name in _NAMES:
            found[name].append(getattr(metrics, name))
        sure, hit = proba.max(axis=1), proba.argmax(axis=1) == y
        (value,) = _ece(sure, hit, np.ones((n, 1)))
        resampled = _ece(sure, hit, counts)
        low, high = np.quantile(resampled, (0.025, 0.975)) - resampled.mean() + value
        found["ece"].append((float(value), max(float(low), 0.0), float(high)))
    for name, intervals in found.items():
        value, low, high = np.array(intervals).T
        covered = (low <= truth[name] + 1e-12) & (truth[name] - 1e-12 <= high)
        yield name, truth[name], float(value.mean()), float(covered.mean())


def main() -> None:
    """Print the coverage of every interval, one line per head and number of rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=3000, help="samples per line")
    parser.add_argument("--rows", type=int, nargs="+", default=[100, 300, 1000], help="test rows")
    samples, sizes = parser.parse_args().samples, parser.parse_args().rows
    print("each: coverage in %; of the two calibration errors also truth -> mean value")
    print(
        "  k factor spread lead     n   top1   top5  balanced   f1  log loss   rms calibration error         ece (bootstrap)"
    )
    for spread, lead in ((1.5, 0.0), (8.0, 0.0), (1.0, 6.0)):
        for classes in (2, 5, 10):
            for factor in (1.0, 1.05, 1.25, 2.5):
                for n in sizes:
                    lines = {
                        name: rest
                        for name, *rest in _measure(Head(classes, factor, spread, lead), n, samples)
                    }
                    covers = [f"{100 * lines[name][2]:6.1f}" for name in _NAMES[:5]]
                    errors = [
                        f"{truth:.4f} -> {value:.4f} {100 * cover:5.1f}"
                        for truth, value, cover in (lines["rms_calibration_error"], lines["ece"])
                    ]
                    print(
                        f"{classes:3} {factor:6} {spread:6} {lead:4.0f} {n:5} {' '.join(covers)}    {'    '.join(errors)}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
