"""The backbone of a run: the one whose features its head reads."""

from pathlib import Path

from frostline.features.backbones import Backbone, load_backbone
from frostline.pipeline.errors import RunError
from frostline.pipeline.runs.record import CacheRecord


def load_run_backbone(
    folder: Path, trained: CacheRecord, weights: str | Path | None = None, *, tuned: bool
) -> Backbone:
    """Load the backbone of one of the caches that a run was trained on, with the transform of that cache.

    Args:
        folder: The run directory.
        trained: The cache.
        weights: Where the backbone's weights are now, if they have moved.
        tuned: Whether the run holds the backbone itself.

    Raises:
        RunError: The weights are not the ones that the head was trained with.
        FeaturesError: The backbone can't be built here.
    """
    spec = trained.spec
    if tuned:
        net = load_backbone(f"run:{folder}")
    else:
        net = load_backbone(spec.backbone, weights=weights or trained.weights)
    if net.weights_sha256 != spec.weights_sha256:
        raise RunError(
            f"{folder} was trained on features of {spec.backbone} with weights {spec.weights_sha256[:12]};"
            f" the weights found are {net.weights_sha256[:12]}. Pass the original ones with --weights FILE."
        )
    return net.with_transform(spec.transform)
