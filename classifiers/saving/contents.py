"""Validation of the arrays of estimators that were read from a file.

Compiled prediction code of scikit-learn follows the indices in fitted arrays, and relies on their sizes, without bounds
checks. A file from someone else must therefore not hold an index outside its array, or arrays whose sizes disagree.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.errors import HeadError


def check_contents(estimator: Any) -> None:
    """Validate trees, support vectors and neighbours of an estimator and of all estimators in it.

    Args:
        estimator: Fitted estimator. One that has none of these is valid.

    Raises:
        HeadError: A branch of a tree leads outside it or to an earlier node, a feature index is out of range, support
            vectors and their coefficients differ in number, or a training row has a label that is no class.
    """
    for part in _parts(estimator):
        state = vars(part)
        if "tree_" in state:
            _check_tree(part.tree_, part.n_features_in_)
        if "estimators_" in state and "estimators_features_" not in state:
            _check_forest(part.estimators_, part.n_features_in_)
        if "_predictors" in state:
            _check_boosting(state["_predictors"], part.n_features_in_)
        if "support_vectors_" in state:
            _check_support_vectors(state, part.n_features_in_)
        if {"_fit_X", "_y", "classes_"} <= set(state):
            _check_neighbors(state["_fit_X"], state["_y"], part)
        if "rows_" in state:
            _check_neighbors(part.rows_, part.targets_, part)


def _parts(estimator: Any) -> Iterator[Any]:
    """Yield every object with attributes that is reached from an estimator through attributes and containers."""
    seen: set[int] = set()
    level = [estimator]
    while level:
        value = level.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, list | tuple):
            level += value
        elif isinstance(value, dict):
            level += value.values()
        elif isinstance(value, np.ndarray):
            level += value.ravel().tolist() if value.dtype == object else ()
        elif hasattr(value, "__dict__") and not isinstance(value, type):
            yield value
            level += vars(value).values()


def _check_forest(estimators: Any, dim: int) -> None:
    """Validate the lengths of feature vectors of trees. A forest checks its own, and not again for each tree."""
    for each in estimators.ravel() if isinstance(estimators, np.ndarray) else estimators:
        if "tree_" in getattr(each, "__dict__", ()) and each.n_features_in_ != dim:
            raise HeadError(f"a tree is for {each.n_features_in_} features, expected {dim}")


def _check_tree(nodes: Any, dim: int) -> None:
    _check_branches(nodes.children_left, nodes.children_right, nodes.feature, nodes.children_left == -1, dim)


def _check_boosting(stages: Any, dim: int) -> None:
    for stage in stages:
        for tree in stage:
            nodes = tree.nodes
            if nodes["is_categorical"].any():
                raise HeadError("a tree has categorical branches, which features don't have")
            leaf = nodes["is_leaf"] != 0
            _check_branches(nodes["left"], nodes["right"], nodes["feature_idx"], leaf, dim)


def _check_branches(left: Any, right: Any, feature: Any, leaf: Any, dim: int) -> None:
    own = np.arange(len(leaf))
    inner = ~np.asarray(leaf, np.bool_)
    good = bool(len(leaf))
    for child in (np.asarray(left, np.int64), np.asarray(right, np.int64)):
        # Both libraries number children after their parents.
        good = good and bool(((child > own) & (child < len(own)))[inner].all())
    numbers = np.asarray(feature, np.int64)[inner]
    if not good or ((numbers < 0) | (numbers >= dim)).any():
        raise HeadError("a tree has branches that lead outside it")


def _check_support_vectors(state: Mapping[str, Any], dim: int) -> None:
    """Validate the arrays that libsvm reads: k classes, v support vectors, k (k - 1) / 2 pairs of classes."""
    if "_impl" in state or state["_sparse"] is not False:
        raise HeadError("its support vectors are of another kind than those of dense features")
    classes, vectors = len(state["classes_"]), len(state["support_"])
    pairs = classes * (classes - 1) // 2
    calibrated = len(state["_probA"]) > 0
    expected = {
        "support_": (vectors,),
        "support_vectors_": (vectors, dim),
        "_n_support": (classes,),
        "dual_coef_": (classes - 1, vectors),
        "_dual_coef_": (classes - 1, vectors),
        "intercept_": (pairs,),
        "_intercept_": (pairs,),
        "_probA": (pairs * calibrated,),
        "_probB": (pairs * calibrated,),
    }
    for name, shape in expected.items():
        found = state[name]
        if not isinstance(found, np.ndarray) or found.shape != shape:
            raise HeadError(f"{name}: got {_shape(found)}, expected an array of shape {shape}")
    counts = state["_n_support"]
    if counts.min() < 0 or counts.sum() != vectors:
        raise HeadError(f"_n_support: got {counts.sum()} support vectors, expected {vectors}")
    _check_indices("support_", state["support_"], state["shape_fit_"][0])


def _check_neighbors(rows: Any, labels: Any, part: Any) -> None:
    expected = (len(labels), part.n_features_in_)
    if not isinstance(rows, np.ndarray) or rows.shape != expected or not isinstance(labels, np.ndarray):
        raise HeadError(f"training rows: got {_shape(rows)}, expected an array of shape {expected}")
    _check_indices("labels of training rows", labels, len(part.classes_))


def _check_indices(what: str, indices: NDArray[Any], count: int) -> None:
    if indices.dtype.kind not in "iu" or indices.ndim != 1:
        raise HeadError(f"{what}: got {_shape(indices)} of {indices.dtype}, expected a row of whole numbers")
    if len(indices) and (indices.min() < 0 or indices.max() >= count):
        raise HeadError(
            f"{what}: got {indices.min()} to {indices.max()}, expected indices from 0 to {count - 1}"
        )


def _shape(value: Any) -> str:
    return f"shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
