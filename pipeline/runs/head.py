"""The head of a run: what the record says of it, and loading it."""

from collections.abc import Collection
from pathlib import Path

from frostline.classifiers.fitting.fitted import FittedHead
from frostline.classifiers.saving.head_files import foreign_types, load_head
from frostline.pipeline.runs.record import HeadRecord, Metrics, Scores


def describe_head(fitted: FittedHead, kind: str) -> HeadRecord:
    """Describe a head for the record; `kind` is its kind as the user named it."""
    return HeadRecord(
        kind=kind,
        params=dict(fitted.params),
        types=foreign_types(fitted.estimator),
        width=fitted.projection.plan.width if fitted.projection else fitted.dim,
    )


def describe_metrics(fitted: FittedHead) -> Metrics:
    """Describe for the record how good a head is on the validation rows."""
    return Metrics(validation=Scores(**fitted.validation))


def load_run_head(folder: Path, trusted: Collection[str] = ()) -> FittedHead:
    """Load the head of a run.

    Args:
        folder: The run directory.
        trusted: Types that a head from outside may hold; see `classifiers.saving.head_files.load_head`.

    Raises:
        HeadFormatError: Its files are missing or changed, or hold what is not trusted.
    """
    return load_head(folder, trusted=trusted)
