"""Record and loading of the head of a run."""

from collections.abc import Collection
from pathlib import Path

from frostline.classifiers.fitting.fitted_head import FittedHead
from frostline.classifiers.saving.head_files import load_head
from frostline.classifiers.saving.skops_files import foreign_types
from frostline.pipeline.runs.record import HeadRecord, Metrics, Scores


def describe_head(fitted: FittedHead, kind: str) -> HeadRecord:
    """Return the record of a head; `kind` is the kind as the user named it."""
    return HeadRecord(
        kind=kind,
        params=dict(fitted.params),
        types=foreign_types(fitted.estimator),
        width=fitted.width,
    )


def describe_metrics(fitted: FittedHead) -> Metrics:
    """Return the record of the validation scores of a head."""
    return Metrics(validation=Scores(**fitted.validation))


def load_run_head(folder: Path, trusted: Collection[str] = ()) -> FittedHead:
    """Load the head of a run.

    Args:
        folder: Run directory.
        trusted: Modules or types to trust when loading a third-party head; see `frostline.classifiers.saving.head_files.load_head`.

    Raises:
        HeadFormatError: Files of the head are missing or modified, or contain types that are not trusted.
    """
    return load_head(folder, trusted=trusted)
