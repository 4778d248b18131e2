"""Which engine will compute a cache's features, and how far from the reference's they will be."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.backbones import Backbone
from features.cache import Part, made_with
from features.check import Check
from features.decoding import Decoder, describe_decoder
from features.engines import Engine, EngineError, Plan, choose_engine, kind_of, plan_engines
from features.loading import load_batches
from features.spec import Dtype, FeatureSpec, Layer
from features.table import OK, ImageSource
from pipeline.reporting import Reporter

__all__ = ["Computation", "EngineOptions", "plan_computation", "specify"]

_CHECKED_IMAGES = 32


@dataclass(frozen=True)
class EngineOptions:
    """What a user says of the computation; see `pipeline.extract`."""

    engine: str
    precision: str
    device: str
    batch_size: int | None
    store: Dtype | None
    min_cosine: float
    decoder: Decoder = "exact"
    views: int = 1
    seed: int = 0


@dataclass(frozen=True)
class Computation:
    """How features will be computed.

    Attributes:
        plan: The engine, built or not.
        spec: What the features will depend on.
        check: How far they are from eager fp32's; none where they are its own, or without a readable image.
    """

    plan: Plan
    spec: FeatureSpec
    check: Check | None
    _built: Engine | None = field(default=None, repr=False)

    def engine(self, backbone: Backbone) -> Engine:
        """The engine, built now if it wasn't for the check."""
        return self._built or self.plan.build(backbone, self.spec.layers)


def plan_computation(
    net: Backbone,
    layers: tuple[Layer, ...],
    source: ImageSource,
    path: Path,
    options: EngineOptions,
    *,
    part: Part | None,
    overwrite: bool,
    workers: int | None,
    report: Reporter,
) -> Computation:
    """Choose an engine and a precision: those of the cache that is there, or else the fastest ones that are good enough.

    Where a cache is there already, nothing is built or compared: its own comparison holds for what is added to it. The
    choice depends on nothing but the options, the machine, the images and the cache, so each part of a cache, and each
    rerun, makes the same one.

    Raises:
        EngineError: No such engine here, or none that works with this network.
    """
    earlier = made_with(path, part)
    if earlier:
        plan = _same_plan(net, earlier.spec, options)
        spec = _specify(net, layers, plan, options) if plan else None
        # Of another specification it can only be replaced, where that is asked for: open_writer says how they differ.
        if plan and spec and (spec.digest == earlier.spec.digest or not overwrite):
            return Computation(plan, spec, earlier.check)
    plans = plan_engines(
        net,
        engine=options.engine,
        precision=options.precision,
        device=options.device,
        batch_size=options.batch_size,
        images=len(source.table.ids),
        views=options.views,
    )
    with report.task("Preparing the engine", None):
        pixels = _sample(net, source, workers, options.decoder, needed=not plans[0].is_reference)
        choice = choose_engine(net, layers, plans, pixels, min_cosine=options.min_cosine)
    for faster in choice.passed_over:
        report.note(f"Passed over {faster}")
    plan, check = choice.plan, choice.check
    report.note(
        f"Engine: {plan.name}, {plan.precision}, on {plan.device}{f' ({plan.reason})' * bool(plan.reason)}"
    )
    if check and check.min_cosine < options.min_cosine:
        report.warn(f"{plan.name} {plan.precision}: {check}; below --min-cosine {options.min_cosine}")
    elif check:
        report.note(f"Checked: {check}")
    spec = _specify(net, layers, plan, options)
    return Computation(plan, spec, check, choice.engine)


def _same_plan(net: Backbone, made: FeatureSpec, options: EngineOptions) -> Plan | None:
    """The plan that a cache was made with, as far as the user leaves it open and it can be had here."""
    try:
        plans = plan_engines(
            net,
            engine=(kind_of(made.engine) or "auto") if options.engine == "auto" else options.engine,
            precision=made.precision if options.precision == "auto" else options.precision,
            device=options.device,
            batch_size=options.batch_size,
            views=options.views,
        )
    except EngineError:
        return None
    return plans[0]


def _specify(net: Backbone, layers: tuple[Layer, ...], plan: Plan, options: EngineOptions) -> FeatureSpec:
    seed = options.seed if options.views > 1 else 0
    return specify(net, layers, plan, options.store, options.decoder, views=options.views, seed=seed)


def specify(
    backbone: Backbone,
    layers: tuple[Layer, ...],
    plan: Plan,
    store: Dtype | None,
    decoder: Decoder = "exact",
    *,
    views: int = 1,
    seed: int = 0,
) -> FeatureSpec:
    """Write down all that the features will depend on."""
    return FeatureSpec(
        backbone=backbone.name,
        weights_sha256=backbone.weights_sha256,
        transform=backbone.transform,
        layers=layers,
        precision=plan.precision,
        dtype=store or ("float32" if plan.precision == "fp32" else "float16"),
        engine=plan.name,
        device=plan.device,
        decoder=describe_decoder(decoder, views),
        versions=backbone.versions,
        views=views,
        seed=seed,
    )


def _sample(
    net: Backbone, source: ImageSource, workers: int | None, decoder: Decoder, *, needed: bool
) -> NDArray[np.uint8]:
    """(n, h, w, 3) pixels of the readable ones among some images, evenly spaced over all of them."""
    count = len(source.table.ids)
    if not needed or not count:
        return np.zeros((0, *net.transform.crop, 3), np.uint8)
    rows = np.unique(np.linspace(0, count - 1, min(count, _CHECKED_IMAGES), dtype=np.int64))
    batches = load_batches(
        source,
        rows,
        net.transform,
        batch_size=len(rows),
        workers=workers,
        block_rows=count,
        decoder=decoder,
    )
    (batch,) = batches
    pixels: NDArray[np.uint8] = batch.pixels[batch.status == OK]
    return pixels
