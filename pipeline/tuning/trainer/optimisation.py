"""Optimizers and schedules of torch, and mixup and CutMix of torchvision, configured by a recipe."""

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    SequentialLR,
)
from torchvision.transforms import v2

from frostline.pipeline.options.learning.recipe import Recipe

_WARMUP_START = 0.01  # fraction of the learning rate at the start of the warm-up
_STEPS, _STEP = (0.6, 0.85), 0.1


def make_optimizer(groups: list[dict[str, Any]], recipe: Recipe) -> Optimizer:
    """Return the optimizer for parameter groups with their own learning rates and weight decays."""
    if recipe.optimizer == "adamw":
        return AdamW(groups)
    return SGD(groups, momentum=recipe.momentum, nesterov=recipe.nesterov)


def make_schedule(optimizer: Optimizer, recipe: Recipe, updates: int) -> LRScheduler:
    """Return the learning rate schedule, which is stepped after each update.

    Args:
        optimizer: Optimizer whose groups hold the peak learning rates.
        recipe: Settings of the training.
        updates: Updates per epoch.
    """
    total = recipe.epochs * updates
    if recipe.schedule == "onecycle":
        peaks = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(optimizer, peaks, total_steps=total + 1, cycle_momentum=False)
    warm = min(round(recipe.warmup * updates), total - 1)
    main = _after_warmup(optimizer, recipe, total, warm)
    if not warm:
        return main
    rising = LinearLR(optimizer, start_factor=_WARMUP_START, total_iters=warm)
    with warnings.catch_warnings():
        # SequentialLR steps its parts in a deprecated way.
        warnings.filterwarnings("ignore", message="The epoch parameter", category=UserWarning)
        return SequentialLR(optimizer, [rising, main], [warm])


def _after_warmup(optimizer: Optimizer, recipe: Recipe, total: int, warm: int) -> LRScheduler:
    """Return the schedule that follows `warm` warm-up updates and counts updates from 0."""
    if recipe.schedule == "cosine":
        return CosineAnnealingLR(optimizer, total - warm)
    if recipe.schedule == "step":
        # Fractions of all updates; a step within the warm-up is taken at its end.
        return MultiStepLR(optimizer, [round(share * total) - warm for share in _STEPS], _STEP)
    return ConstantLR(optimizer, factor=1.0)


def step(schedule: LRScheduler) -> None:
    """Step the schedule after an update."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The epoch parameter", category=UserWarning)
        schedule.step()


def replay(schedule: LRScheduler, updates: int) -> None:
    """Advance a new schedule by a number of updates."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step", category=UserWarning)
        for _ in range(updates):
            step(schedule)


class Mixing:
    """Mixup and CutMix of a batch.

    Args:
        recipe: Settings of the training.
        classes: Number of classes.
    """

    def __init__(self, recipe: Recipe, classes: int) -> None:
        ways: list[torch.nn.Module] = []
        if recipe.mixup:
            ways.append(v2.MixUp(num_classes=classes, alpha=recipe.mixup))
        if recipe.cutmix:
            ways.append(v2.CutMix(num_classes=classes, alpha=recipe.cutmix))
        self._ways = ways

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mix (b, 3, h, w) images and (b,) labels; mixed images are float and labels (b, classes) probabilities."""
        if not self._ways:
            return images, labels
        way = self._ways[int(torch.randint(len(self._ways), ()))]
        mixed: tuple[Tensor, Tensor] = way(images.float(), labels)
        return mixed
