"""From a recipe to torch's own optimizers and schedules, and torchvision's mixing of images."""

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

from frostline.pipeline.tuning.recipe import Recipe

_WARM = 0.01  # of the learning rate, at the start of a warm-up
_STEPS, _STEP = (0.6, 0.85), 0.1


def make_optimizer(groups: list[dict[str, Any]], recipe: Recipe) -> Optimizer:
    """The recipe's optimizer for groups that have their own learning rates and weight decays."""
    if recipe.optimizer == "adamw":
        return AdamW(groups)
    return SGD(groups, momentum=recipe.momentum, nesterov=recipe.nesterov)


def make_schedule(optimizer: Optimizer, recipe: Recipe, updates: int) -> LRScheduler:
    """The recipe's schedule, which is stepped after each update.

    Args:
        optimizer: Whose groups' rates are the largest ones.
        recipe: What to follow.
        updates: In one epoch.
    """
    total = recipe.epochs * updates
    if recipe.schedule == "onecycle":
        peaks = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(optimizer, peaks, total_steps=total + 1, cycle_momentum=False)
    warm = min(round(recipe.warmup * updates), total - 1)
    main = _after_warmup(optimizer, recipe, total, warm)
    if not warm:
        return main
    rising = LinearLR(optimizer, start_factor=_WARM, total_iters=warm)
    with warnings.catch_warnings():
        # It steps its parts in a way that they deprecate themselves.
        warnings.filterwarnings("ignore", message="The epoch parameter", category=UserWarning)
        return SequentialLR(optimizer, [rising, main], [warm])


def _after_warmup(optimizer: Optimizer, recipe: Recipe, total: int, warm: int) -> LRScheduler:
    """What follows so many warm-up updates and counts its own from 0."""
    if recipe.schedule == "cosine":
        return CosineAnnealingLR(optimizer, total - warm)
    if recipe.schedule == "step":
        # Shares of all updates; a step that falls into the warm-up is taken at its end.
        return MultiStepLR(optimizer, [round(share * total) - warm for share in _STEPS], _STEP)
    return ConstantLR(optimizer, factor=1.0)


def step(schedule: LRScheduler) -> None:
    """Step after an update."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The epoch parameter", category=UserWarning)
        schedule.step()


def replay(schedule: LRScheduler, updates: int) -> None:
    """Bring a fresh schedule to where it was after so many updates."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step", category=UserWarning)
        for _ in range(updates):
            step(schedule)


class Mixing:
    """Mixes the images of a batch, and their labels.

    Args:
        recipe: How.
        classes: How many there are.
    """

    def __init__(self, recipe: Recipe, classes: int) -> None:
        ways: list[torch.nn.Module] = []
        if recipe.mixup:
            ways.append(v2.MixUp(num_classes=classes, alpha=recipe.mixup))
        if recipe.cutmix:
            ways.append(v2.CutMix(num_classes=classes, alpha=recipe.cutmix))
        self._ways = ways

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Images (b, 3, h, w); where they are mixed, floats and probabilities (b, classes) in place of labels (b,)."""
        if not self._ways:
            return images, labels
        way = self._ways[int(torch.randint(len(self._ways), ()))]
        mixed: tuple[Tensor, Tensor] = way(images.float(), labels)
        return mixed
