"""Loading of backbones by name."""

import contextlib
import dataclasses
from pathlib import Path

from frostline.features.backbones.backbone import Backbone
from frostline.features.backbones.network import Source
from frostline.features.backbones.providers.published import Publisher, recognise
from frostline.features.backbones.providers.registry import find
from frostline.features.backbones.tuned import TUNED, load_tuned
from frostline.features.backbones.weights import seed_of_random_weights
from frostline.features.errors import WeightsError
from frostline.system.files import resolved


def load_backbone(name: str, *, weights: str | Path | None = None) -> Backbone:
    """Load a frozen backbone by name.

    Args:
        name: One of three forms. ``SOURCE:NAME`` names a backbone of a source: ``embedded``, ``timm``,
            ``torchvision``, ``open_clip``, ``small``, ``plugin``, or a source of another package. A bare name is
            searched in the sources in that order. ``run:DIR`` names a fine-tuned backbone.
        weights: None for the pretrained weights, which the source may download; the path of a safetensors or torch
            file; or ``random`` or ``random:SEED`` for an untrained network. If the name has no tag, a published file
            that is known by its SHA-256 gets the transform that belongs to it.

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
    found, remark = _recognised(source, found, weights, named="." in name.rpartition(":")[2])
    network = source.build(found, weights)
    note = " ".join(part for part in (network.note, remark) if part)
    return Backbone(
        f"{source.prefix}:{found}", dataclasses.replace(network, note=note), origin=_origin(weights)
    )


def _recognised(source: Source, name: str, weights: str | Path | None, *, named: bool) -> tuple[str, str]:
    """Return the full name that belongs to a weights file, and a remark; see `recognise`."""
    if weights is None or seed_of_random_weights(weights) is not None or not isinstance(source, Publisher):
        return name, ""
    with contextlib.suppress(OSError):  # reported when it is read
        if Path(weights).is_file():  # neither a folder nor a pipe, which may never answer
            return recognise(name, source.published(name), Path(weights), named=named)
    return name, ""


def _origin(weights: str | Path | None) -> str:
    if weights is None:
        return ""
    return str(resolved(weights)) if Path(weights).exists() else str(weights)
