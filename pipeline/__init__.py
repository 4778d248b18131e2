"""The stages, in the order data flows: extract, train_head, finetune, evaluate, predict.

Each is imported when it is first asked for, so that extracting doesn't wait for what evaluating needs.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.batching import BatchPlan, BatchResult, batch, plan_batch
    from pipeline.checking import CacheCheck, check_cache
    from pipeline.errors import (
        ClusterError,
        FinetuneError,
        LeakError,
        PipelineError,
        RecipeError,
        RunError,
        StudyError,
        TooManyBadImagesError,
    )
    from pipeline.evaluation import EvaluationResult, evaluate
    from pipeline.extraction import ExtractResult, extract
    from pipeline.finetuning import FinetuneResult, finetune
    from pipeline.html_report import ReportResult, write_report
    from pipeline.labels import LabelErrors, label_errors
    from pipeline.leaderboard import Leaderboard, compare_runs
    from pipeline.prediction import Prediction, predict
    from pipeline.ranking import Ranking, rank
    from pipeline.sample_sizes import FewShotResult, LearningCurveResult, few_shot, learning_curve
    from pipeline.training import TrainResult, train_head
    from pipeline.training_rows import split_rows
    from pipeline.tuning.recipe import Recipe

__all__ = [
    "BatchPlan",
    "BatchResult",
    "CacheCheck",
    "ClusterError",
    "EvaluationResult",
    "ExtractResult",
    "FewShotResult",
    "FinetuneError",
    "FinetuneResult",
    "LabelErrors",
    "Leaderboard",
    "LeakError",
    "LearningCurveResult",
    "PipelineError",
    "Prediction",
    "Ranking",
    "Recipe",
    "RecipeError",
    "ReportResult",
    "RunError",
    "StudyError",
    "TooManyBadImagesError",
    "TrainResult",
    "batch",
    "check_cache",
    "compare_runs",
    "evaluate",
    "extract",
    "few_shot",
    "finetune",
    "label_errors",
    "learning_curve",
    "plan_batch",
    "predict",
    "rank",
    "split_rows",
    "train_head",
    "write_report",
]

_MODULES = {
    "pipeline.batching": ("BatchPlan", "BatchResult", "batch", "plan_batch"),
    "pipeline.checking": ("CacheCheck", "check_cache"),
    "pipeline.errors": (
        "ClusterError",
        "FinetuneError",
        "LeakError",
        "PipelineError",
        "RecipeError",
        "RunError",
        "StudyError",
        "TooManyBadImagesError",
    ),
    "pipeline.evaluation": ("EvaluationResult", "evaluate"),
    "pipeline.extraction": ("ExtractResult", "extract"),
    "pipeline.finetuning": ("FinetuneResult", "finetune"),
    "pipeline.html_report": ("ReportResult", "write_report"),
    "pipeline.labels": ("LabelErrors", "label_errors"),
    "pipeline.leaderboard": ("Leaderboard", "compare_runs"),
    "pipeline.prediction": ("Prediction", "predict"),
    "pipeline.sample_sizes": ("FewShotResult", "LearningCurveResult", "few_shot", "learning_curve"),
    "pipeline.ranking": ("Ranking", "rank"),
    "pipeline.training": ("TrainResult", "train_head"),
    "pipeline.training_rows": ("split_rows",),
    "pipeline.tuning.recipe": ("Recipe",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
