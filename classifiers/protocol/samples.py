"""Samples of rows, drawn from each class in proportion."""

import numpy as np
from numpy.typing import NDArray


def stratified(rows: NDArray[np.int64], labels: NDArray[np.int64], size: int, seed: int) -> NDArray[np.int64]:
    """Draw rows without replacement, from each class in proportion to its size.

    Every class gets one row if there are as many places, and its share of the other places, rounded down or up: the classes
    with the largest remainders are rounded up, the first of equal ones first.

    Args:
        rows: (n,) rows.
        labels: (n,) class of each row; rows without a label, -1, are a class of their own.
        size: Number of rows to draw; all are returned if there are no more.
        seed: Random seed.

    Returns:
        The drawn rows, in ascending order.
    """
    if len(rows) <= size:
        return np.sort(rows)
    codes, counts = np.unique(labels, return_counts=True)
    first = int(len(codes) <= size)
    shares = (counts - first) * ((size - first * len(codes)) / (len(rows) - first * len(codes)))
    drawn = np.floor(shares).astype(np.int64)
    order = np.argsort(-(shares - drawn), kind="stable")
    drawn[order[: size - first * len(codes) - drawn.sum()]] += 1
    rng = np.random.default_rng(seed)
    parts = [
        rng.choice(rows[labels == code], count, replace=False)
        for code, count in zip(codes, (drawn + first).tolist(), strict=True)
    ]
    return np.sort(np.concatenate(parts))
