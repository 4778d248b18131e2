"""Feature vectors to labels.

Names are imported as they are asked for, so that a command line that needs none of torch doesn't wait for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from classifiers.comparison import Comparison, compare
    from classifiers.fitted import FittedHead
    from classifiers.heads import HEADS, parse_params
    from classifiers.linear import LinearHead, linear_path
    from classifiers.metrics import Metrics, score
    from classifiers.mlp import MLPHead
    from classifiers.persistence import load_head, save_head
    from classifiers.selection import fit_head
    from classifiers.splits import assign_splits, check_splits

__all__ = [
    "HEADS",
    "Comparison",
    "FittedHead",
    "LinearHead",
    "MLPHead",
    "Metrics",
    "assign_splits",
    "check_splits",
    "compare",
    "fit_head",
    "linear_path",
    "load_head",
    "parse_params",
    "save_head",
    "score",
]

_HOMES = {
    "Comparison": "comparison",
    "compare": "comparison",
    "HEADS": "heads",
    "FittedHead": "fitted",
    "LinearHead": "linear",
    "MLPHead": "mlp",
    "Metrics": "metrics",
    "assign_splits": "splits",
    "check_splits": "splits",
    "fit_head": "selection",
    "linear_path": "linear",
    "load_head": "persistence",
    "parse_params": "heads",
    "save_head": "persistence",
    "score": "metrics",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
