"""Engines, which execute the forward pass from batches of pixels to batches of feature vectors."""

from collections.abc import Sequence

from frostline.features.backbones import Backbone
from frostline.features.engines.choice import Choice, choose_engine
from frostline.features.engines.engine import (
    ENGINES,
    TOLERANCE,
    ConversionError,
    Device,
    DeviceMemoryError,
    Engine,
    EngineError,
    EngineKind,
    Features,
)
from frostline.features.engines.plan import Plan, kind_of, plan_engines
from frostline.features.spec import Layer

__all__ = [
    "ENGINES",
    "TOLERANCE",
    "Choice",
    "ConversionError",
    "Device",
    "DeviceMemoryError",
    "Engine",
    "EngineError",
    "EngineKind",
    "Features",
    "Plan",
    "choose_engine",
    "kind_of",
    "make_engine",
    "plan_engines",
]


def make_engine(
    backbone: Backbone,
    layers: Sequence[Layer],
    *,
    engine: str = "eager",
    precision: str = "auto",
    device: str = "auto",
    batch_size: int | None = None,
) -> Engine:
    """Build the fastest engine of `plan_engines`, without comparing its features with the reference.

    Args:
        backbone: Backbone that computes the features. Its module is copied, never changed.
        layers: Layers from `Backbone.resolve_layers`.
        engine: See `plan_engines`.
        precision: See `plan_engines`.
        device: See `plan_engines`.
        batch_size: Images per batch; None chooses by the device and its memory.

    Raises:
        EngineError: The engine, device or precision isn't available, or the batch size isn't positive.
    """
    if not layers:
        raise EngineError("no layers to compute; expected at least one, from Backbone.resolve_layers")
    plans = plan_engines(backbone, engine=engine, precision=precision, device=device, batch_size=batch_size)
    return plans[0].build(backbone, layers)
