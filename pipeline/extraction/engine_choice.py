"""Choice of the engine that computes the features of a cache, and its deviation from the reference."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from frostline.features.backbones import Backbone
from frostline.features.cache import Layout, made_with
from frostline.features.cache.contract import Compatibility, Provenance
from frostline.features.engines import (
    Choice,
    Device,
    Engine,
    Plan,
    choose_engine,
    kind_of,
    plan_engines,
)
from frostline.features.errors import CacheMismatchError, EngineError
from frostline.features.fidelity import Check
from frostline.features.images.batches import load_batches
from frostline.features.images.decoders import describe_decoder
from frostline.features.spec import Dtype, FeatureSpec, Layer
from frostline.features.table import OK, ImageSource
from frostline.pipeline.options.extraction import CacheOptions

_CHECKED_IMAGES = 32


@dataclass(frozen=True)
class Computation:
    """Plan for computing features.

    Attributes:
        plan: Plan of the engine; None if it is not available here (see `obstacle`).
        spec: Specification of the features.
        check: Deviation from eager fp32; None if the engine is eager fp32, or without a readable image.
        obstacle: Reason why rows can't be added here to an existing cache; empty if they can.
    """

    plan: Plan | None
    spec: FeatureSpec
    check: Check | None
    obstacle: str = ""
    _built: Engine | None = field(default=None, repr=False)

    def engine(self, backbone: Backbone, cache: Path, images: int) -> Engine:
        """Return the engine; build it if the check has not already done so.

        Args:
            backbone: The backbone.
            cache: Path of the cache, for messages.
            images: Number of images to compute.

        Raises:
            CacheMismatchError: The engine that computed the cache is not available here.
        """
        if self.plan is None:
            raise CacheMismatchError(
                f"{cache}: {images} images are still missing, and this machine can't compute them in the same way as"
                f" the others: {self.obstacle}.\n"
                "Choose another file with --cache, replace this one with --overwrite, or resume on the machine that"
                " wrote it"
            )
        return self._built or self.plan.build(backbone, self.spec.layers)

    def with_engine(self, engine: Engine | None) -> "Computation":
        """Return this computation with an engine that was built for it, or without one."""
        return replace(self, _built=engine)


def plan_computation(
    net: Backbone,
    layers: tuple[Layer, ...],
    source: ImageSource,
    path: Path,
    options: CacheOptions,
) -> Computation:
    """Choose the engine and precision of an existing cache, or else the fastest ones that reach `min_cosine`.

    For an existing cache no engine is built or compared: the check stored in it also holds for new rows. The
    choice depends only on the options, the machine, the images and the cache, so every part of a cache and every
    rerun makes the same choice.

    Raises:
        EngineError: The engine is not available here, or no engine supports this network.
    """
    earlier = made_with(path, options.part)
    kept = _keep(net, layers, earlier, options) if earlier else None
    # A cache with another spec can only be replaced (--overwrite); open_writer reports the differing fields.
    if (
        earlier
        and kept
        and (not options.overwrite or (kept.plan and kept.spec.digest == earlier.spec.digest))
    ):
        return kept
    plans = possible_plans(net, options, len(source.table))
    report = options.report
    with report.task("Preparing the engine", None):
        pixels = _sample(net, source, options, needed=not plans[0].is_reference)
        choice = choose_engine(net, layers, plans, pixels, min_cosine=options.min_cosine)
    plan, check = choice.plan, choice.check
    report.note(
        f"Engine: {plan.name}, {plan.precision}, on {plan.device}{f' ({plan.reason})' * bool(plan.reason)}"
    )
    if check and check.min_cosine < options.min_cosine:
        report.warn(f"{plan.name} {plan.precision}: {check}; below --min-cosine {options.min_cosine}")
    elif check and not plan.is_reference:
        report.note(f"Check of the engine: {check}")
    spec = _specify(net, layers, plan, options)
    return Computation(plan, spec, check, _built=choice.engine)


def possible_plans(net: Backbone, options: CacheOptions, images: int) -> tuple[Plan, ...]:
    """Return the plans of the engines that the options allow for a number of images, see `frostline.features.engines.plan_engines`."""
    return plan_engines(
        net,
        engine=options.engine,
        precision=options.precision,
        device=options.device,
        batch_size=options.batch_size,
        images=images,
        views=options.views,
    )


def engine_like(
    existing: Provenance,
    net: Backbone,
    layers: tuple[Layer, ...],
    source: ImageSource,
    options: CacheOptions,
) -> Engine:
    """Build the engine that computed existing features, to compute compatible ones.

    If that engine is not available here, build the fastest one whose features are within the numerical contract.
    Any difference is reported.

    Args:
        existing: How the existing features were computed.
        net: The backbone.
        layers: Layers to compute.
        source: The images.
        options: Options of the user, of which the part and the storage format are not used. A named engine or precision is used even if it is outside the contract.

    Raises:
        EngineError: The named engine is not available here, or no check shows that another engine agrees with
            `existing`.
    """
    report, named = options.report, not options.engine == options.precision == "auto"
    with report.task("Preparing the engine", None):
        try:
            plan = _plan_like(net, existing.spec, options, device=options.device)
            choice = Choice(plan, plan.build(net, layers), None)
        except EngineError:
            if options.engine != "auto":
                raise
            choice = _nearest(net, layers, source, options)
    ours = Provenance(_specify(net, layers, choice.plan, options, existing.spec.dtype), choice.check)
    compatibility = Compatibility(existing, ours, frozenset(layer.key for layer in layers))
    if compatibility.computed_otherwise and compatibility.is_within_contract:
        report.note(f"Features are {compatibility}.")
    elif compatibility.computed_otherwise and named:
        report.warn(
            f"Features are {compatibility.how}, and no check shows that they agree: {'; '.join(compatibility.failures())}."
        )
    elif compatibility.computed_otherwise:
        raise EngineError(
            f"The existing features were computed by {existing.name}, which is not available here, and no check shows that"
            f" {ours.name} agrees with them: {'; '.join(compatibility.failures())}. To use it anyway, add {ours.options}."
        )
    return choice.engine


def _nearest(net: Backbone, layers: tuple[Layer, ...], source: ImageSource, options: CacheOptions) -> Choice:
    """Choose the fastest engine within the numerical contract, in the requested precision (default fp32)."""
    plans = plan_engines(
        net,
        precision="fp32" if options.precision == "auto" else options.precision,
        device=options.device,
        batch_size=options.batch_size,
        images=len(source.table.ids),
    )
    pixels = _sample(net, source, options, needed=not plans[0].is_reference)
    return choose_engine(net, layers, plans, pixels)


def _keep(
    net: Backbone, layers: tuple[Layer, ...], earlier: Layout, options: CacheOptions
) -> Computation | None:
    """Return the computation of a cache, with the options that the user set; None if these are not available here."""
    existing = earlier.spec
    plan, obstacle = _plan_or_obstacle(net, existing, options)
    local = plan or Plan("eager", existing.precision, cast("Device", existing.device), 1)
    spec = _specify(net, layers, local, options, existing.dtype)
    differences = spec.differences(existing)
    if not _is_open(options, existing) or not all(each.is_of_computation for each in differences):
        return Computation(plan, spec, earlier.origin.check) if plan else None
    if plan and not differences:
        return Computation(plan, existing, earlier.origin.check)
    obstacle = obstacle or "; ".join(
        f"{d.field} is {d.ours} here and {d.theirs} in the cache" for d in differences
    )
    return Computation(None, existing, earlier.origin.check, obstacle)


def _plan_or_obstacle(net: Backbone, existing: FeatureSpec, options: CacheOptions) -> tuple[Plan | None, str]:
    """Return the plan of existing features, on their device unless the user names one, or the reason why not."""
    device = existing.device if options.device == "auto" else options.device
    try:
        return _plan_like(net, existing, options, device=device), ""
    except EngineError as error:
        return None, str(error)


def _is_open(options: CacheOptions, existing: FeatureSpec) -> bool:
    """Return whether the options of the user allow the engine, precision and device of existing features."""
    requested = {
        (options.engine, kind_of(existing.engine)),
        (options.precision, existing.precision),
        (options.device, existing.device),
    }
    return all(option in ("auto", value) for option, value in requested)


def _plan_like(net: Backbone, existing: FeatureSpec, options: CacheOptions, *, device: str) -> Plan:
    """Return the plan of existing features, with the options that the user set.

    Raises:
        EngineError: The engine is not available here.
    """
    engine = (kind_of(existing.engine) or "auto") if options.engine == "auto" else options.engine
    return plan_engines(
        net,
        engine=engine,
        precision=existing.precision if options.precision == "auto" else options.precision,
        device=device,
        batch_size=options.batch_size,
        views=options.views,
    )[0]


def _specify(
    net: Backbone, layers: tuple[Layer, ...], plan: Plan, options: CacheOptions, dtype: Dtype = "float32"
) -> FeatureSpec:
    """Return the specification of the features; `dtype` is the number format if the user names none."""
    seed = options.seed if options.views > 1 else 0
    return specify(net, layers, plan, options.store or dtype, options.decoder, views=options.views, seed=seed)


def specify(
    backbone: Backbone,
    layers: tuple[Layer, ...],
    plan: Plan,
    dtype: Dtype = "float32",
    decoder: str = "exact",
    *,
    views: int = 1,
    seed: int = 0,
) -> FeatureSpec:
    """Return the specification of the features: everything that their values depend on."""
    return FeatureSpec(
        backbone=backbone.name,
        weights_sha256=backbone.weights_sha256,
        transform=backbone.transform,
        layers=layers,
        precision=plan.precision,
        dtype=dtype,
        engine=plan.name,
        device=plan.device,
        decoder=describe_decoder(decoder, views),
        versions=backbone.versions,
        views=views,
        seed=seed,
    )


def _sample(net: Backbone, source: ImageSource, options: CacheOptions, *, needed: bool) -> NDArray[np.uint8]:
    """Return the (n, h, w, 3) uint8 pixels of the readable images in an evenly spaced sample."""
    count = len(source.table.ids)
    if not needed or not count:
        return np.zeros((0, *net.transform.crop, 3), np.uint8)
    rows = np.unique(np.linspace(0, count - 1, min(count, _CHECKED_IMAGES), dtype=np.int64))
    batches = load_batches(
        source,
        rows,
        net.transform,
        batch_size=len(rows),
        workers=options.workers,
        block_rows=count,
        decoder=options.decoder,
    )
    (batch,) = batches
    pixels: NDArray[np.uint8] = batch.pixels[batch.status == OK]
    return pixels
