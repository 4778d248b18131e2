"""Scores to probabilities: one temperature, fitted where the head was not."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

__all__ = ["fit_temperature"]


def fit_temperature(scores: NDArray[np.float64], y: NDArray[np.int64]) -> float:
    """Find the temperature T for which softmax(scores / T) has the least log loss (Guo et al. 2017).

    The targets are smoothed by one row's worth, as in Platt 1999, so that rows without a mistake don't make the head
    infinitely sure.

    Args:
        scores: (n, k) of rows that the head was not fitted to; larger is more likely.
        y: (n,) column of each row's class.

    Returns:
        The temperature; 1 where the scores say nothing.
    """
    n, k = scores.shape
    spread = float(np.abs(scores - scores.mean(axis=1, keepdims=True)).mean()) if n else 0.0
    if spread == 0:
        return 1.0
    smoothed = 1 / (n + 2)
    targets = np.full((n, k), smoothed / k)
    targets[np.arange(n), y] += 1 - smoothed

    def loss(log_temperature: float) -> float:
        log_shares = log_softmax(scores / np.exp(log_temperature), axis=1)
        return float(-(targets * log_shares).sum() / n)

    centre = np.log(spread)
    found = minimize_scalar(
        loss, bounds=(centre - 10, centre + 10), method="bounded", options={"xatol": 1e-4}
    )
    return math.exp(float(found.x))
