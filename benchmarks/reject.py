"""Compare distances by which images of unknown classes are rejected.

Each class of a cache is held out in turn. The others are divided into 60 % training, 20 % validation and 20 % test rows.
A threshold is set on validation rows so that at most 5 % of the images of known classes are rejected, by the rule of
`frostline predict --reject 0.05`. The table shows means over the held-out classes: the AUROC of the distance for held-out
images against test images, the lowest AUROC of a class, and the shares of test and held-out images that are rejected.

    python -m benchmarks.reject                 # scanned digits, as pixels: one minute
    python -m benchmarks.reject photos.h5       # features of a cache
"""

import argparse
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from sklearn.utils.extmath import randomized_svd

from frostline.classifiers.fitting.rejection import Rejection, fit_rejection
from frostline.features.cache import FeatureCache

_RATE = 0.05

Array = NDArray[np.float64]
Score = Callable[[Array], Array]


def _unit(X: Array) -> Array:
    unit: Array = X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-30)
    return unit


def _squares(X: Array, base: Array) -> Array:
    """Squared distances (n, m)."""
    found: Array = (X**2).sum(axis=1)[:, None] + (base**2).sum(axis=1) - 2 * X @ base.T
    squares: Array = np.maximum(found, 0)
    return squares


def _neighbour(base: Array, k: int) -> Score:
    return lambda X: np.partition(_squares(_unit(X), base), k - 1, axis=1)[:, k - 1]


def _mahalanobis(X: Array, y: NDArray[np.int64], rank: int) -> tuple[Callable[[Array], Array], Array]:
    """Return a map in which distances are Mahalanobis distances of unit vectors, and the class means in it.

    The shared covariance is that of probabilistic principal components within the classes.
    """
    unit, codes = _unit(X), np.unique(y, return_inverse=True)[1]
    means = np.stack([unit[codes == code].mean(axis=0) for code in range(codes.max() + 1)])
    inner = unit - means[codes]
    rank = min(rank, X.shape[1] // 2)
    _, values, axes = randomized_svd(inner, rank, random_state=0)
    variances = values**2 / len(inner)
    noise = ((inner**2).sum() / len(inner) - variances.sum()) / (X.shape[1] - rank)
    factors = np.sqrt(noise / np.maximum(variances, noise)) - 1

    def whiten(rows: Array) -> Array:
        rows = _unit(rows)
        mapped: Array = rows + (rows @ axes.T * factors) @ axes
        return mapped

    return whiten, means + (means @ axes.T * factors) @ axes


def _scores(X: Array, y: NDArray[np.int64], seed: int) -> Mapping[str, Score]:
    """Return the scores that are compared, fitted to training rows; large for images of unknown classes."""
    base = _unit(X)
    sample = np.random.default_rng(seed).permutation(len(X))[:400]
    whiten, means = _mahalanobis(X, y, 32)
    whitened = whiten(X)
    scaler = StandardScaler().fit(X)
    head = LogisticRegression(C=0.01, max_iter=300).fit(scaler.transform(X), y)
    rows = np.arange(len(X))
    shipped: Rejection = fit_rejection(X.astype(np.float32), y, rows, rows[:1], seed=seed, device="cpu")
    return {
        "frostline": lambda Q: shipped.measure(Q.astype(np.float32), device="cpu"),
        "nearest neighbour, cosine": _neighbour(base, 1),
        "5th neighbour, cosine": _neighbour(base, 5),
        "50th neighbour, cosine": _neighbour(base, 50),
        "nearest of 400 rows, cosine": _neighbour(base[sample], 1),
        "Mahalanobis, rank 32": lambda Q: _squares(whiten(Q), means).min(axis=1),
        "nearest neighbour, Mahalanobis": lambda Q: _squares(whiten(Q), whitened).min(axis=1),
        "1 - highest probability": lambda Q: 1 - head.predict_proba(scaler.transform(Q)).max(axis=1),
    }


def _held_out(X: Array, y: NDArray[np.int64], label: int) -> dict[str, tuple[float, float, float]]:
    rng = np.random.default_rng(label)
    known = rng.permutation(np.flatnonzero((y >= 0) & (y != label)))
    first, second = int(0.6 * len(known)), int(0.8 * len(known))
    train, val, test = np.split(known, [first, second])
    strange = np.flatnonzero(y == label)
    found = {}
    for name, score in _scores(X[train], y[train], label).items():
        limit = Rejection(np.empty(0), np.empty((0, 0)), np.sort(score(X[val]))).threshold(_RATE)  # type: ignore[arg-type]
        ours, theirs = score(X[test]), score(X[strange])
        truth = np.repeat([0, 1], [len(ours), len(theirs)])
        area = float(roc_auc_score(truth, np.concatenate([ours, theirs])))
        found[name] = (area, float((ours > limit).mean()), float((theirs > limit).mean()))
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cache", nargs="?", help="cache with labelled images; by default scanned digits")
    parser.add_argument("--layer", help="layer of the cache")
    given = parser.parse_args()
    if given.cache:
        cache = FeatureCache.open(given.cache)
        kept = cache.ok & (cache.labels >= 0)
        features: Any = cache.features(given.layer)
        X, y = np.asarray(features[np.flatnonzero(kept)], np.float64), cache.labels[kept]
    else:
        X, y = load_digits(return_X_y=True)
    results = [_held_out(X, y, int(label)) for label in np.unique(y)]
    print(f"{len(X)} images, {len(results)} classes, each held out once; rejection at {_RATE:.0%}\n")
    print(f"| {'score':31s} | AUROC | lowest | known rejected | held-out rejected |")
    print("|---|---|---|---|---|")
    for name in results[0]:
        values = np.array([each[name] for each in results])
        area, false, found = values.mean(axis=0)
        print(f"| {name:31s} | {area:.3f} | {values[:, 0].min():.3f} | {false:.1%} | {found:.1%} |")


if __name__ == "__main__":
    main()
