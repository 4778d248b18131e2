"""Feature vectors to labels.

Names are imported as they are asked for, so that a command line that needs none of torch doesn't wait for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from frostline.classifiers.experiments.comparison import Comparison, compare
    from frostline.classifiers.fitting.fit import fit_head
    from frostline.classifiers.fitting.fitted import FittedHead
    from frostline.classifiers.fitting.inputs import FitOptions, LabelledRows
    from frostline.classifiers.heads.catalog import HEADS, parse_params
    from frostline.classifiers.heads.linear import LinearHead, linear_path
    from frostline.classifiers.heads.mlp import MLPHead
    from frostline.classifiers.protocol.metrics import Metrics, score
    from frostline.classifiers.protocol.splits import assign_splits, check_splits
    from frostline.classifiers.saving.head_files import load_head, save_head

__all__ = [
    "HEADS",
    "Comparison",
    "FitOptions",
    "FittedHead",
    "LabelledRows",
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
    "Comparison": "experiments.comparison",
    "compare": "experiments.comparison",
    "HEADS": "heads.catalog",
    "FittedHead": "fitting.fitted",
    "LinearHead": "heads.linear",
    "MLPHead": "heads.mlp",
    "Metrics": "protocol.metrics",
    "assign_splits": "protocol.splits",
    "check_splits": "protocol.splits",
    "FitOptions": "fitting.inputs",
    "LabelledRows": "fitting.inputs",
    "fit_head": "fitting.fit",
    "linear_path": "heads.linear",
    "load_head": "saving.head_files",
    "parse_params": "heads.catalog",
    "save_head": "saving.head_files",
    "score": "protocol.metrics",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
