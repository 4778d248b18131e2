"""Validation of decision trees that were read from a file.

Compiled prediction code follows branches without bounds checks. A branch must therefore not lead outside its tree
or back to an earlier node.
"""

from typing import Any

import numpy as np

from frostline.classifiers.errors import HeadError


def check_trees(estimator: Any, dim: int) -> None:
    """Validate every tree of a random forest or of histogram gradient boosting.

    Args:
        estimator: Fitted estimator. An estimator without trees is valid.
        dim: Length of a feature vector.

    Raises:
        HeadError: A branch leads outside its tree or to an earlier node, or a feature index is out of range.
    """
    for tree in getattr(estimator, "estimators_", ()):
        nodes = tree.tree_
        _check(nodes.children_left, nodes.children_right, nodes.feature, nodes.children_left == -1, dim)
    for stage in getattr(estimator, "_predictors", ()):
        for tree in stage:
            nodes = tree.nodes
            if nodes["is_categorical"].any():
                raise HeadError("a tree has categorical branches, which features don't have")
            _check(nodes["left"], nodes["right"], nodes["feature_idx"], nodes["is_leaf"] != 0, dim)


def _check(left: Any, right: Any, feature: Any, leaf: Any, dim: int) -> None:
    own = np.arange(len(leaf))
    inner = ~np.asarray(leaf, np.bool_)
    good = bool(len(leaf))
    for child in (np.asarray(left, np.int64), np.asarray(right, np.int64)):
        # Both libraries number children after their parents.
        good = good and bool(((child > own) & (child < len(own)))[inner].all())
    numbers = np.asarray(feature, np.int64)[inner]
    if not good or ((numbers < 0) | (numbers >= dim)).any():
        raise HeadError("a tree has branches that lead outside it")
