"""Loading of the backbone of a run."""

from pathlib import Path

from frostline.features.backbones import Backbone, load_backbone
from frostline.pipeline.errors import RunError
from frostline.pipeline.runs.record import CacheRecord


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
    spec = trained.spec
    if tuned:
        net = load_backbone(f"run:{folder}")
    else:
        if weights is None:
            _check_present(folder, trained.weights)
        net = load_backbone(spec.backbone, weights=weights or trained.weights)
    if net.weights_sha256 != spec.weights_sha256:
        raise RunError(
            f"{folder} was trained on features of {spec.backbone} with weights {spec.weights_sha256[:12]};"
            f" the weights found are {net.weights_sha256[:12]}. Pass the original ones with --weights FILE."
        )
    return net.with_transform(spec.transform)


def _check_present(folder: Path, weights: str | None) -> None:
    """Raise `RunError` if the recorded weights are a file, which has an absolute path, that is missing."""
    if weights is None or not Path(weights).is_absolute() or Path(weights).exists():
        return
    raise RunError(
        f"{folder} was trained on features of the weights {weights}, which are missing. Pass the file with --weights FILE."
    )
