"""Cross-validation folds that keep copies of an image, and the images of a group, together."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.errors import SplitError
from frostline.classifiers.protocol.splits import positions

_SALT = b"frostline-fold-1:"


def assign_folds(content: NDArray[np.uint8], groups: NDArray[Any], folds: int) -> NDArray[np.int64]:
    """Assign each row to a fold by a stable hash of its group or, without a group, of its image content.

    Rows of equal content and rows of one group share a fold, transitively, as in `assign_splits`. The hash differs
    from that of `assign_splits`, so that folds are independent of the splits.

    Args:
        content: (n, 16) digests of the image bytes.
        groups: (n,) str or bytes, empty for no group.
        folds: Number of folds, at least 2.

    Returns:
        (n,) int64 fold of each row, 0 to folds - 1.

    Raises:
        SplitError: There are fewer than 2 folds, or a fold is empty.
    """
    if folds < 2:
        raise SplitError(f"folds: got {folds}, expected at least 2")
    distinct, index = np.unique(
        positions(np.asarray(content, np.uint8), np.asarray(groups)), return_inverse=True
    )
    fold_of = np.array([_fold(position, folds) for position in distinct], np.int64)
    fold: NDArray[np.int64] = fold_of[index]
    empty = folds - len(np.unique(fold))
    if empty:
        raise SplitError(
            f"folds: {empty} of {folds} have no row; {len(distinct)} different images or groups are too few, ask for fewer"
        )
    return fold


def _fold(position: np.float64, folds: int) -> int:
    digest = hashlib.blake2b(_SALT + position.tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % folds
