"""From a name to a backbone."""

from pathlib import Path

from frostline.features.backbones.backbone import Backbone
from frostline.features.backbones.providers.registry import find
from frostline.features.backbones.tuned import TUNED, load_tuned
from frostline.features.errors import WeightsError


def load_backbone(name: str, *, weights: str | Path | None = None) -> Backbone:
    """Load a frozen backbone by name.

    Args:
        name: ``SOURCE:NAME`` with one of the sources ``embedded``, ``timm``, ``torchvision``, ``open_clip``, ``small`` and
            ``plugin``, or one that another package declares, or a bare name, which is searched in that order; or ``run:DIR``,
            which this project trained.
        weights: None for the pretrained weights, which the source may download; a safetensors or torch file; or
            ``random`` or ``random:SEED`` for an untrained network.

    Raises:
        BackboneError: No such backbone, or one that can't be built here; names near matches.
        WeightsError: The weights can't be had, must not be trusted, or aren't of this backbone.
    """
    if name.startswith(TUNED):
        if weights is not None:
            raise WeightsError(
                f"backbone {name} brings the weights that it was trained to; got others, {weights}. Leave them away, or name "
                "the backbone that they are of"
            )
        return load_tuned(name.removeprefix(TUNED))
    source, found = find(name)
    return Backbone(f"{source.prefix}:{found}", source.build(found, weights), origin=_origin(weights))


def _origin(weights: str | Path | None) -> str:
    if weights is None:
        return ""
    return str(Path(weights).resolve()) if Path(weights).exists() else str(weights)
