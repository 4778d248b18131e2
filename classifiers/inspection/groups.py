"""Groups of equal and nearly equal images: connected components of the graph of similar pairs."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.errors import HeadError, SplitError
from frostline.numerics.components import Components
from frostline.numerics.devices import resolve_device
from frostline.numerics.neighbors import MEMORY_BYTES, RowSearch, Vectors

_STEP = 2048  # rows that are compared with all earlier ones at a time


def duplicate_groups(
    X: Any,
    rows: NDArray[np.int64],
    content: NDArray[np.uint8],
    *,
    threshold: float,
    centre: NDArray[np.float64],
    device: str = "auto",
    memory_bytes: int = MEMORY_BYTES,
    advance: Callable[[int], object] = lambda _done: None,
) -> NDArray[np.int64]:
    """Group rows that are equal or nearly equal.

    Two rows are joined if their bytes are equal, or if the cosine of their centred features is at least the threshold.
    Groups are the connected components, so that two rows of a group may be less similar than the threshold. The
    search is exact. Each pair is compared at most once; a pair that earlier pairs have connected is skipped, and no
    list of pairs is made, so that memory does not depend on the number of similar pairs.

    Args:
        X: (n, d) floats of any width, e.g. a memory map.
        rows: (m,) sorted rows to group. Their features are finite.
        content: (n, 16) digests of the image bytes; zero if unknown.
        threshold: Smallest cosine, in (-1, 1].
        centre: (d,) vector that is subtracted first; see `frostline.classifiers.inspection.duplicates.split_centre`.
        device: Device of the matrix products.
        memory_bytes: Limit on working memory in bytes.
        advance: Function that is called with the number of rows compared since the last call.

    Returns:
        (m,) int64: for each row the smallest row of its group.

    Raises:
        SplitError: The threshold is out of range.
    """
    if not -1 < threshold <= 1:
        raise SplitError(f"threshold: got {threshold}, expected a number above -1 and at most 1")
    equal = Components(len(rows))
    known = np.flatnonzero(content[rows].any(axis=1))
    equal.join_equal(np.ascontiguousarray(content[rows[known]]).view("V16").ravel(), known)
    single = np.flatnonzero(equal.labels == np.arange(len(rows)))  # one row of each image
    advance(len(rows) - len(single))
    near = Components(len(single))
    index = rows[single]
    for start in range(0, len(single), _STEP):
        stop = min(start + _STEP, len(single))
        search = RowSearch(
            Vectors(X, index[:stop], near.labels[:stop]),
            metric="cosine",
            device=resolve_device(device, HeadError),
            centre=centre,
            memory_bytes=memory_bytes,
        )
        block = Vectors(X, index[start:stop], near.labels[start:stop])
        for pairs in search.within(block, np.full(stop - start, 1 - threshold)):
            near.join(start + pairs.queries, pairs.rows)
        advance(stop - start)
    of_single = np.searchsorted(single, equal.labels)
    return rows[single[near.labels[of_single]]]


def similarities(
    X: Any, a: NDArray[np.int64], b: NDArray[np.int64], centre: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the (p,) cosines of the centred features of pairs of rows, in float64.

    Args:
        X: (n, d) floats of any width.
        a: (p,) rows.
        b: (p,) rows.
        centre: (d,) vector that is subtracted first.
    """
    found = np.empty(len(a))
    for start in range(0, len(a), _STEP):
        part = slice(start, start + _STEP)
        left, right = (np.asarray(X[rows[part]], np.float64) - centre for rows in (a, b))
        norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
        products = (left * right).sum(axis=1)
        found[part] = np.divide(products, norms, out=np.zeros_like(norms), where=norms > 0)
    return found
