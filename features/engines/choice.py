"""Choice of the first plan that meets the numerical contract, checked on a few of the user's own images."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frostline.features.backbones import Backbone
from frostline.features.engines.engine import Engine
from frostline.features.engines.plan import Plan
from frostline.features.errors import ConversionError
from frostline.features.fidelity import Check
from frostline.features.images.batches import Batch
from frostline.features.spec import MIN_COSINE, Layer
from frostline.features.table import OK, STAMP_BYTES


@dataclass(frozen=True)
class Choice:
    """A built engine with its plan and check.

    Attributes:
        plan: Plan that the engine was built from.
        engine: The engine.
        check: Comparison with the reference, and the faster engines that were not chosen. None without images, and
            for the reference itself if no other plan was tried before it.
    """

    plan: Plan
    engine: Engine
    check: Check | None


def choose_engine(
    backbone: Backbone,
    layers: Sequence[Layer],
    plans: Sequence[Plan],
    pixels: NDArray[np.uint8],
    *,
    min_cosine: float = MIN_COSINE,
) -> Choice:
    """Build the first plan that works and whose features are close enough to those of eager fp32.

    The last plan is accepted regardless of its check. A single plan is what the user requested.

    Args:
        backbone: Backbone that computes the features.
        layers: Layers from `Backbone.resolve_layers`.
        plans: Plans from `plan_engines`.
        pixels: (n, h, w, 3) uint8 pixels of a sample of the images; n may be 0.
        min_cosine: Smallest accepted cosine similarity to the reference, for every image and layer.

    Raises:
        ConversionError: No plan works with this network. The message gives the reason for the last plan.
    """
    reference: dict[str, NDArray[np.float32]] | None = None
    rejected: tuple[str, ...] = ()
    for plan in plans:
        last = plan == plans[-1]
        try:
            engine = plan.build(backbone, layers)
        except ConversionError as error:
            if last:
                raise
            rejected += (f"{plan.name} {plan.precision}: {error}",)
            continue
        if not len(pixels) or (plan.is_reference and not rejected):
            return Choice(plan, engine, None)
        if reference is None:
            reference = _features(plan.build_reference(backbone, layers), pixels)
        check = Check.of(_features(engine, pixels), reference)
        if last or check.min_cosine >= min_cosine:
            return Choice(plan, engine, dataclasses.replace(check, rejected=rejected))
        rejected += (f"{plan.name} {plan.precision}: {check}; {min_cosine} required",)
    raise ValueError("no plans; expected those of plan_engines")


def _features(engine: Engine, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """Return (n, dim) float32 features by layer key."""
    found = [outputs for _, outputs in engine.run(_batches(pixels, engine.batch_size))]
    return {layer.key: np.concatenate([part[layer.key][:, 0] for part in found]) for layer in engine.layers}


def _batches(pixels: NDArray[np.uint8], size: int) -> Iterator[Batch]:
    for start in range(0, len(pixels), size):
        part = pixels[start : start + size]
        count = len(part)
        padded = np.zeros((size, *pixels.shape[1:]), np.uint8)
        padded[:count] = part
        yield Batch(
            rows=np.arange(start, start + count),
            pixels=padded,
            content=np.zeros((count, 16), np.uint8),
            stamps=np.zeros((count, STAMP_BYTES), np.uint8),
            status=np.full(count, OK, np.uint8),
            errors=("",) * count,
        )
