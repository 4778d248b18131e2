"""Loading of backbones by name."""

from pathlib import Path

from frostline.features.backbones.backbone import Backbone
from frostline.features.backbones.providers.registry import find
from frostline.features.backbones.tuned import TUNED, load_tuned
from frostline.features.errors import WeightsError


def load_backbone(name: str, *, weights: str | Path | None = None) -> Backbone:
    """Load a frozen backbone by name.

    Args:
        name: One of three forms. ``SOURCE:NAME`` names a backbone of a source: ``embedded``, ``timm``,
            ``torchvision``, ``open_clip``, ``small``, ``plugin``, or a source of another package. A bare name is
            searched in the sources in that order. ``run:DIR`` names a fine-tuned backbone.
        weights: None for the pretrained weights, which the source may download; the path of a safetensors or torch
            file; or ``random`` or ``random:SEED`` for an untrained network.

    Returns:
        The backbone, in evaluation mode and without gradients.

    Raises:
        BackboneError: The backbone is unknown or can't be built on this machine. The message lists similar names.
        WeightsError: The weights are not available, are unsafe to load, or don't fit the backbone.
    """
    if name.startswith(TUNED):
        if weights is not None:
            raise WeightsError(
                f"backbone {name} already has its own weights; got {weights} as well. Drop --weights, or name the "
                "backbone that those weights belong to"
            )
        return load_tuned(name.removeprefix(TUNED))
    source, found = find(name)
    return Backbone(f"{source.prefix}:{found}", source.build(found, weights), origin=_origin(weights))


def _origin(weights: str | Path | None) -> str:
    if weights is None:
        return ""
    return str(Path(weights).resolve()) if Path(weights).exists() else str(weights)
