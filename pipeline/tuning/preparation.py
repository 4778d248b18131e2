"""Preparation of a fine-tuning: the network, its frost line and its inputs."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import nn

from frostline.features.backbones import Backbone, Stage, Upper, find_stage, trunk
from frostline.features.cache import FeatureCache
from frostline.features.errors import BackboneError
from frostline.features.images.batches import default_workers
from frostline.pipeline.errors import FinetuneError
from frostline.pipeline.extraction.compute import fill_cache
from frostline.pipeline.extraction.defaults import default_cache_path
from frostline.pipeline.inputs.learning_rows import LearningRows
from frostline.pipeline.inputs.networks import load_network
from frostline.pipeline.inputs.scanned_images import ImageSet
from frostline.pipeline.options.extraction import AnyDevice, CacheOptions
from frostline.pipeline.options.learning.recipe import Recipe
from frostline.pipeline.options.learning.tuning import FinetuneOptions
from frostline.pipeline.progress import SILENT
from frostline.pipeline.tuning.inputs import ActivationInputs, ImageInputs, Inputs
from frostline.pipeline.tuning.start import EMBEDDING, StartRun, fresh_head
from frostline.pipeline.tuning.trainer.loop import Job
from frostline.pipeline.tuning.trainer.network import FrostLine, Network, single_value_norms
from frostline.pipeline.tuning.trainer.processes import Processes


@dataclass(frozen=True)
class Plan:
    """Network, data and options of a training.

    Attributes:
        net: Initial network.
        rows: The images, with training and validation rows.
        options: Options of the stage; the backbone and the weights are those of the initial network.
        processes: Processes that train together.
    """

    net: Backbone
    rows: LearningRows[ImageSet]
    options: FinetuneOptions
    processes: Processes

    @property
    def recipe(self) -> Recipe:
        """Settings of the training."""
        return self.options.recipe

    @property
    def frozen(self) -> int:
        """Number of stages below the frost line.

        Raises:
            LayerError: The stage does not exist.
        """
        stages, line = self.net.stages(), self.recipe.frost_line
        if line == "none":
            return 0
        return len(stages) if line == "all" else find_stage(stages, line) + 1

    def check(self) -> None:
        """Raise `FinetuneError` if parts of the plan exclude each other."""
        recipe = self.recipe
        self.processes.precision(recipe.precision)
        if recipe.patience is not None and not len(self.rows.val):
            raise FinetuneError(
                "patience: early stopping needs validation images, and there are none; drop --patience"
            )
        if self.options.from_scratch and self.frozen:
            raise FinetuneError(
                f"frost line {recipe.frost_line!r}: freezing needs pretrained weights; drop --frost-line or"
                " --from-scratch"
            )
        steps = recipe.accumulate * self.processes.count
        update = min(recipe.batch_size, len(self.rows.train))
        if update < steps:
            raise FinetuneError(
                f"an update of {update} images can't be divided into {recipe.accumulate} steps of"
                f" {self.processes.count} processes; raise --batch-size, or lower --accumulate"
            )

    def uncacheable(self) -> str:
        """Return the reason why the output below the frost line can't be cached; empty if it can."""
        recipe = self.recipe
        if not self.frozen:
            return "nothing is frozen (pass --frost-line STAGE)"
        if recipe.unfreeze_every:
            return "the frost line moves (drop --unfreeze-every)"
        if recipe.randomises:
            return (
                "images are augmented anew in every epoch (pass --augment none or --views K, and no --randaugment, --erasing,"
                " --mixup or --cutmix)"
            )
        return ""


@dataclass(frozen=True)
class Tuning:
    """A prepared training.

    Attributes:
        plan: Plan of the training.
        job: Job of the training loop.
        trunk: The whole network without its classifier; training changes it in place.
        cache: Cache of the activations at the frost line; None if training uses images.
    """

    plan: Plan
    job: Job
    trunk: nn.Module
    cache: Path | None

    @property
    def frozen(self) -> int:
        """Number of parameters that stay frozen."""
        last = self.job.line.frozen_at(self.plan.recipe.epochs - 1)
        return sum(stage.parameters for stage in self.job.line.stages[:last])

    @property
    def trained(self) -> int:
        """Number of parameters that are trained."""
        head = sum(parameter.numel() for parameter in self.job.network.head.parameters())
        return head + sum(stage.parameters for stage in self.job.line.stages) - self.frozen


def prepare(plan: Plan, start: StartRun | None, folder: Path) -> Tuning:
    """Build the network and its inputs.

    Args:
        plan: Plan of the training.
        start: Run to start from, or None.
        folder: Folder for checkpoints.

    Raises:
        FinetuneError: The parts of the plan exclude each other.
    """
    plan.check()
    wanted = _wants_cache(plan)
    whole = trunk(plan.net)
    stages = plan.net.stages()
    line = FrostLine(
        whole,
        stages,
        plan.frozen,
        plan.recipe.unfreeze_every,
        keeps_statistics=plan.recipe.keeps_statistics(from_scratch=plan.options.from_scratch),
    )
    body = _upper(plan, whole, stages) if wanted else None
    cache = _activations(plan, stages) if body is not None else None
    head = _first_head(plan, start)
    job = Job(
        network=_network(plan, whole, body, head),
        line=line,
        inputs=_inputs(plan, stages, cache),
        train=plan.rows.train,
        val=plan.rows.val,
        classes=len(plan.rows.images.classes),
        recipe=plan.recipe,
        from_scratch=plan.options.from_scratch,
        folder=folder,
        key=_key(plan, head, cached=cache is not None),
        processes=plan.processes,
    )
    _check_steps(job)
    return Tuning(plan, job, whole, cache.path if cache else None)


def _check_steps(job: Job) -> None:
    """Raise `FinetuneError` if batch normalisation would see one value per channel in a step of one image."""
    processes, recipe = job.processes, job.recipe
    together = (
        processes.count > 1 and processes.device.type == "cuda"
    )  # statistics are those of all processes
    if together or job.sampler.update_rows // (recipe.accumulate * processes.count) > 1:
        return
    job.line.train(job.network, recipe.epochs - 1)  # the epoch with the fewest frozen stages
    image, _ = next(job.inputs.validation(job.train[:1]))
    if names := single_value_norms(job.network, image):
        raise FinetuneError(
            f"a step holds one image, and batch normalisation ({', '.join(names)}) can't be trained on the one value per"
            f" channel that is left of it: an update of {job.sampler.update_rows} images is divided into"
            f" {recipe.accumulate * processes.count} steps. Raise --batch-size or --image-size, lower --accumulate, or pass"
            " --statistics frozen"
        )


def _wants_cache(plan: Plan) -> bool:
    """Return whether the plan allows and asks for a cache of the output below the frost line.

    Raises:
        FinetuneError: A cache is requested but not possible, or required but excluded.
    """
    cached, refusal = plan.options.cached, plan.uncacheable()
    if plan.recipe.views > 1 and (refusal or cached is False):
        raise FinetuneError(f"views > 1 needs a cache below a frost line; {refusal or 'drop --no-cached'}")
    if cached and refusal:
        raise FinetuneError(
            f"the output below the frost line can't be cached: {refusal}; or pass --no-cached"
        )
    if refusal and plan.frozen and cached is None:
        plan.options.report.note(
            f"The stages below the frost line are computed in every epoch, not cached: {refusal}"
        )
    return cached is not False and not refusal


def _first_head(plan: Plan, start: StartRun | None) -> nn.Linear:
    """Return the initial head: that of the run to start from, or a new one."""
    if start is not None:
        return start.head(plan.rows.images, plan.rows.train)
    dim = plan.net.layers()[EMBEDDING].dim
    return fresh_head(dim, len(plan.rows.images.classes), plan.recipe.seed)


def _network(plan: Plan, whole: nn.Module, body: nn.Module | None, head: nn.Linear) -> Network:
    """Return the network to train: the whole one on images, or the part above the frost line on activations."""
    if body is None:
        return Network(whole, head, plan.net.transform, plan.recipe.dropout)
    return Network(body, head, None, plan.recipe.dropout)


def _upper(plan: Plan, whole: nn.Module, stages: Sequence[Stage]) -> nn.Module | None:
    """Return the part above the frost line; None if the network can't be cut there and `cached` is not set."""
    if plan.frozen == len(stages):
        return nn.Identity()
    try:
        return Upper(whole, stages, plan.frozen - 1, plan.net.transform.crop)
    except BackboneError as error:
        if plan.options.cached:
            raise
        plan.options.report.note(f"Training on images, not on cached activations: {error}")
        return None


def _activations(plan: Plan, stages: Sequence[Stage]) -> FeatureCache:
    """Return the cache of the output below the frost line, which one process writes and all read."""
    options, stage = plan.options, stages[plan.frozen - 1]
    layer = EMBEDDING if plan.frozen == len(stages) else stage.layer
    source = plan.rows.images.source
    side = plan.net.transform.crop[0]
    # Use the precision of passes through the whole network; the fastest engine may be less precise.
    precision = plan.processes.precision(plan.recipe.precision)
    # Views depend on the seed, so each seed has its own cache.
    views = f".{plan.recipe.views}-views-{plan.recipe.seed}" if plan.recipe.views > 1 else ""
    path = Path(options.caches) / default_cache_path(
        source.root, f"{options.backbone}.{side}px.below-{stage.name}.{precision}{views}", options.limit
    )
    if plan.processes.leads:
        size = len(source.table) * math.prod(stage.shape) * 2 * plan.recipe.views
        options.report.note(f"Caching the activations below the frost line, {size / 1e9:.2f} GB, in {path}")
        settings = CacheOptions(
            precision=precision,
            device=cast("AnyDevice", plan.processes.device.type),
            store="float16",
            views=plan.recipe.views,
            seed=plan.recipe.seed,
            report=options.report,
        )
        # An engine may change the network that it runs. How its file was read is known already.
        net = load_network(dataclasses.replace(options, report=SILENT))
        fill_cache(source, net, net.resolve_layers([layer]), path, settings)
    plan.processes.wait()
    cache = FeatureCache.open(path)
    lost = np.flatnonzero(plan.rows.images.ok & ~cache.ok)
    if len(lost):
        raise FinetuneError(
            f"{path}: {len(lost)} images have no activations, e.g. {cache.ids[lost[0]]}:"
            f" {cache.errors[int(lost[0])]}. Train on the images themselves with --no-cached."
        )
    return cache


def _inputs(plan: Plan, stages: Sequence[Stage], cache: FeatureCache | None) -> Inputs:
    if cache is None:
        workers = plan.options.workers
        return ImageInputs(
            plan.rows.images.source,
            plan.rows.images.labels,
            plan.net.transform,
            plan.recipe,
            workers=default_workers() if workers is None else workers,
            pin=plan.processes.device.type == "cuda",
            warn=plan.options.report.warn,
        )
    shape = stages[plan.frozen - 1].shape
    views = [cache.features(view=view) for view in range(cache.spec.views)]
    return ActivationInputs(views, plan.rows.images.labels, shape, plan.recipe.seed)


def _key(plan: Plan, head: nn.Linear, *, cached: bool) -> str:
    """Return a digest of everything that the result depends on."""
    document = {
        "recipe": dataclasses.asdict(plan.recipe),
        "backbone": plan.net.name,
        "weights": plan.net.weights_sha256,
        "transform": dataclasses.asdict(plan.net.transform),
        "classes": plan.rows.images.classes,
        "cached": cached,
        "torch": torch.__version__,
    }
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode())
    for parameter in head.parameters():
        digest.update(parameter.detach().numpy().tobytes())
    for rows in (plan.rows.train, plan.rows.val):
        digest.update(plan.rows.images.content[rows].tobytes())
        digest.update(plan.rows.images.labels[rows].tobytes())
    return digest.hexdigest()
