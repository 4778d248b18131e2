"""The stages, in the order data flows: extract, train_head, evaluate, predict.

Each is imported when it is first asked for, so that extracting doesn't wait for what evaluating needs.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.errors import PipelineError, RunError, TooManyBadImagesError
    from pipeline.evaluation import EvaluationResult, evaluate
    from pipeline.extraction import ExtractResult, extract
    from pipeline.prediction import Prediction, predict
    from pipeline.training import TrainResult, split_rows, train_head

__all__ = [
    "EvaluationResult",
    "ExtractResult",
    "PipelineError",
    "Prediction",
    "RunError",
    "TooManyBadImagesError",
    "TrainResult",
    "evaluate",
    "extract",
    "predict",
    "split_rows",
    "train_head",
]

_MODULES = {
    "pipeline.errors": ("PipelineError", "RunError", "TooManyBadImagesError"),
    "pipeline.evaluation": ("EvaluationResult", "evaluate"),
    "pipeline.extraction": ("ExtractResult", "extract"),
    "pipeline.prediction": ("Prediction", "predict"),
    "pipeline.training": ("TrainResult", "split_rows", "train_head"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
