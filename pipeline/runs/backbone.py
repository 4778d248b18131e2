"""Loading of the backbone of a run."""

from pathlib import Path

from frostline.features.backbones import Backbone
from frostline.features.cache.imported.facts import describe_imported
from frostline.pipeline.errors import RunError
from frostline.pipeline.inputs.networks import load_matching
from frostline.pipeline.runs.record import CacheRecord
from frostline.shell import shell_command


def load_run_backbone(
    folder: Path, trained: CacheRecord, weights: str | Path | None = None, *, tuned: bool
) -> Backbone:
    """Load the backbone of one of the caches that a run was trained on, with the transform of that cache.

    Args:
        folder: Run directory.
        trained: Record of the cache.
        weights: Path of the weights, if the file was moved.
        tuned: Whether the run holds its own fine-tuned backbone.

    Raises:
        RunError: The weights are missing, or differ from those that the head was trained with.
        FeaturesError: The backbone can't be built here.
    """
    refuse_imported(folder, trained)
    return load_matching(
        trained.spec,
        f"{folder} was trained on",
        recorded=trained.weights,
        weights=weights,
        tuned=str(folder) if tuned else None,
    )


def refuse_imported(folder: Path, trained: CacheRecord) -> None:
    """Raise `RunError` if a run was trained on imported vectors, whose backbone is not known here."""
    if trained.spec.is_imported:
        raise RunError(
            f"{folder} was trained on vectors that were {describe_imported(trained.spec)}, so the network that made them is"
            " not known here. Import the vectors of the new images under the same name and facts, and label them with:"
            f" {shell_command('frostline', 'predict', folder)} --cache NEW.h5"
        )
