"""The stages, in the order data flows: extract, train_head, finetune, evaluate, predict.

Each is imported when it is first asked for, so that extracting doesn't wait for what evaluating needs.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from frostline.pipeline.errors import (
        ClusterError,
        FinetuneError,
        LeakError,
        PipelineError,
        RecipeError,
        RunError,
        StudyError,
        TooManyBadImagesError,
    )
    from frostline.pipeline.extraction.extract import ExtractResult, extract
    from frostline.pipeline.inputs.labelled_images import split_rows
    from frostline.pipeline.inspection.check_cache import CacheCheck, check_cache
    from frostline.pipeline.inspection.label_errors import LabelErrors, label_errors
    from frostline.pipeline.inspection.rank_backbones import Ranking, rank
    from frostline.pipeline.judging.evaluate import EvaluationResult, evaluate
    from frostline.pipeline.judging.predict import Prediction, predict
    from frostline.pipeline.runs.run import Run, load_run
    from frostline.pipeline.studies.batch import BatchPlan, BatchResult, batch, plan_batch
    from frostline.pipeline.studies.html_report import ReportResult, write_report
    from frostline.pipeline.studies.leaderboard import Leaderboard, compare_runs
    from frostline.pipeline.training.sample_sizes import (
        FewShotResult,
        LearningCurveResult,
        few_shot,
        learning_curve,
    )
    from frostline.pipeline.training.train_head import TrainResult, train_head
    from frostline.pipeline.tuning.finetune import FinetuneResult, finetune
    from frostline.pipeline.tuning.recipe import Recipe

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
    "Run",
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
    "load_run",
    "plan_batch",
    "predict",
    "rank",
    "split_rows",
    "train_head",
    "write_report",
]

_MODULES = {
    "frostline.pipeline.studies.batch": ("BatchPlan", "BatchResult", "batch", "plan_batch"),
    "frostline.pipeline.inspection.check_cache": ("CacheCheck", "check_cache"),
    "frostline.pipeline.errors": (
        "ClusterError",
        "FinetuneError",
        "LeakError",
        "PipelineError",
        "RecipeError",
        "RunError",
        "StudyError",
        "TooManyBadImagesError",
    ),
    "frostline.pipeline.judging.evaluate": ("EvaluationResult", "evaluate"),
    "frostline.pipeline.extraction.extract": ("ExtractResult", "extract"),
    "frostline.pipeline.tuning.finetune": ("FinetuneResult", "finetune"),
    "frostline.pipeline.studies.html_report": ("ReportResult", "write_report"),
    "frostline.pipeline.inspection.label_errors": ("LabelErrors", "label_errors"),
    "frostline.pipeline.studies.leaderboard": ("Leaderboard", "compare_runs"),
    "frostline.pipeline.judging.predict": ("Prediction", "predict"),
    "frostline.pipeline.training.sample_sizes": (
        "FewShotResult",
        "LearningCurveResult",
        "few_shot",
        "learning_curve",
    ),
    "frostline.pipeline.runs.run": ("Run", "load_run"),
    "frostline.pipeline.inspection.rank_backbones": ("Ranking", "rank"),
    "frostline.pipeline.training.train_head": ("TrainResult", "train_head"),
    "frostline.pipeline.inputs.labelled_images": ("split_rows",),
    "frostline.pipeline.tuning.recipe": ("Recipe",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
