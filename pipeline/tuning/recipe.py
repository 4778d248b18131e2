"""The recipe of a training: all settings that the result depends on, apart from the data and the network."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from frostline.pipeline.errors import RecipeError

Optimizer = Literal["sgd", "adamw"]
Schedule = Literal["cosine", "step", "onecycle", "constant"]
Augment = Literal["none", "flip", "shift", "crop"]
Statistics = Literal["auto", "frozen", "batch"]

_BASE_BATCH = 128  # images per update that the default learning rates refer to
_DEFAULT_LR = {("sgd", False): 0.02, ("sgd", True): 0.1, ("adamw", False): 5e-4, ("adamw", True): 1e-3}
_BACKBONE_SHARE = 0.1  # pretrained weights need smaller steps than a new head
_DEFAULT_DECAY = {"sgd": 5e-4, "adamw": 0.05}


@dataclass(frozen=True)
class Recipe:
    """Settings of a training.

    Attributes:
        epochs: Number of passes over the training images.
        batch_size: Images per update, summed over all processes and accumulated steps.
        optimizer: ``sgd`` with momentum, or ``adamw`` (Loshchilov & Hutter 2019).
        lr: Peak learning rate of the head; None for the default of the optimizer, scaled in proportion to the
            batch size (Goyal et al. 2017).
        momentum: Momentum of sgd.
        nesterov: Whether sgd uses Nesterov momentum.
        weight_decay: Weight decay of the weights that multiply the inputs of layers, see
            `pipeline.tuning.trainer.decay.decaying`; biases, normalisation, layer scales, tokens and position
            embeddings are exempt. None for the default of the optimizer.
        layer_decay: Factor of the learning rate from each stage of the backbone to the one below it.
        backbone_lr: Learning rate of the backbone relative to that of the head; None for 0.1, or 1 from scratch.
        schedule: Learning rate schedule. ``cosine`` decays to 0. ``step`` divides by ten at 60 % and again at 85 %
            of the epochs. ``onecycle`` is that of Smith & Topin 2018, as in `torch.optim.lr_scheduler.OneCycleLR`
            but with constant momentum. ``constant`` keeps the rate.
        warmup: Warm-up epochs, included in `epochs`, in which the learning rate rises from a hundredth of its
            peak. ``onecycle`` has its own warm-up.
        label_smoothing: Fraction of each target that is spread evenly over all classes.
        mixup: Alpha of the Beta distribution of the mixing coefficients (Zhang et al. 2018); 0 for no mixup.
        cutmix: Alpha of CutMix (Yun et al. 2019); 0 for no CutMix. With both, each batch draws one of the two.
        augment: Augmentation of training images. ``none``; ``flip``: random mirroring; ``shift``: also a random
            shift by up to an eighth of the side, for small images; ``crop``: also a random crop of at least 35 %
            of the area, resized (Szegedy et al. 2015).
        views: Number of versions of each image that are cached below a frost line: the image itself and random
            crops as for ``crop``. Each epoch draws one version of each image.
        randaugment: Magnitude, up to 30, of two random operations (RandAugment, Cubuk et al. 2020); 0 for none.
        erasing: Probability of greying out a random rectangle (Zhong et al. 2020).
        dropout: Dropout probability before the head.
        ema: Decay per update of an exponential moving average of the weights, which is then evaluated and kept;
            None for no average.
        clip: Maximum norm of the gradient; None for no clipping.
        accumulate: Number of steps per update; more steps need less memory.
        statistics: Batch-norm statistics in training. ``frozen`` keeps the pretrained ones, so that training
            starts from the pretrained function. ``batch`` uses those of each batch and updates the stored ones.
            ``auto`` is ``frozen`` unless training from scratch.
        frost_line: Last stage that stays frozen, ``none`` or ``all``.
        unfreeze_every: Number of epochs after which the frost line moves down by one stage, repeatedly; None for a
            fixed frost line.
        patience: Number of epochs without improvement on validation after which training stops; None to never stop
            early.
        compile: Whether to compile the network with torch.compile.
        precision: Number format of the passes: ``auto``, ``fp32``, ``bf16`` or ``fp16``; weights are always fp32.
        seed: Random seed.
    """

    epochs: int = 10
    batch_size: int = 64
    optimizer: Optimizer = "sgd"
    lr: float | None = None
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float | None = None
    layer_decay: float = 1.0
    backbone_lr: float | None = None
    schedule: Schedule = "cosine"
    warmup: float = 1.0
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    augment: Augment = "crop"
    views: int = 1
    randaugment: int = 0
    erasing: float = 0.0
    dropout: float = 0.0
    ema: float | None = None
    clip: float | None = None
    accumulate: int = 1
    statistics: Statistics = "auto"
    frost_line: str = "none"
    unfreeze_every: int | None = None
    patience: int | None = None
    compile: bool = False
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (expected, holds) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not holds(value):
                raise RecipeError(f"{name}: got {value!r}, expected {expected}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in get_args(choices):
                raise RecipeError(
                    f"{name}: got {getattr(self, name)!r}, expected one of {', '.join(get_args(choices))}"
                )
        for problem in self._conflicts():
            raise RecipeError(problem)

    def _conflicts(self) -> Iterator[str]:
        """Yield a message for each conflict between values that are valid by themselves."""
        if self.nesterov and self.optimizer == "sgd" and self.momentum == 0:
            yield "nesterov needs momentum > 0: pass --no-nesterov or a positive --momentum"
        if self.batch_size % self.accumulate:
            yield f"accumulate: got {self.accumulate}, expected a divisor of the batch size, {self.batch_size}"
        if self.views > 1 and self.augment != "crop":
            yield f"views > 1 works only with augment 'crop', got {self.augment!r}; change one of the two"
        if self.unfreeze_every and self.frost_line == "none":
            yield "unfreeze_every: nothing is frozen; pass --frost-line STAGE, or all"

    @property
    def randomises(self) -> bool:
        """Whether training images are augmented anew in every epoch."""
        crops = self.augment != "none" and self.views == 1
        return crops or self.randaugment > 0 or self.erasing > 0 or self.mixes

    @property
    def mixes(self) -> bool:
        """Whether mixup or CutMix is used."""
        return self.mixup > 0 or self.cutmix > 0

    def keeps_statistics(self, *, from_scratch: bool) -> bool:
        """Return whether batch normalisation keeps its pretrained statistics."""
        return self.statistics == "frozen" or (self.statistics == "auto" and not from_scratch)

    def peak_lr(self, *, from_scratch: bool) -> float:
        """Return the peak learning rate of the head."""
        if self.lr is not None:
            return self.lr
        return _DEFAULT_LR[self.optimizer, from_scratch] * self.batch_size / _BASE_BATCH

    def backbone_share(self, *, from_scratch: bool) -> float:
        """Return the learning rate of the backbone relative to that of the head."""
        if self.backbone_lr is not None:
            return self.backbone_lr
        return 1.0 if from_scratch else _BACKBONE_SHARE

    def decay(self) -> float:
        """Return the weight decay."""
        return _DEFAULT_DECAY[self.optimizer] if self.weight_decay is None else self.weight_decay

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of all settings."""
        return tuple(field.name for field in fields(cls))


def _at_least(low: float) -> tuple[str, Any]:
    return f"at least {low:g}", lambda value: value >= low


_CHOICES: dict[str, Any] = {
    "optimizer": Optimizer,
    "schedule": Schedule,
    "augment": Augment,
    "statistics": Statistics,
}
_SHARE: tuple[str, Any] = ("at least 0 and below 1", lambda value: 0 <= value < 1)
_POSITIVE: tuple[str, Any] = ("above 0", lambda value: 0 < value < float("inf"))
_RANGES: dict[str, tuple[str, Any]] = {
    "seed": ("0 to 4294967295", lambda value: 0 <= value < 2**32),
    "epochs": _at_least(1),
    "batch_size": _at_least(1),
    "lr": _POSITIVE,
    "momentum": _SHARE,
    "weight_decay": _at_least(0),
    "layer_decay": ("above 0, at most 1", lambda value: 0 < value <= 1),
    "backbone_lr": ("above 0, at most 1", lambda value: 0 < value <= 1),
    "warmup": _at_least(0),
    "label_smoothing": _SHARE,
    "mixup": _at_least(0),
    "cutmix": _at_least(0),
    "views": _at_least(1),
    "randaugment": ("0 to 30", lambda value: 0 <= value <= 30),
    "erasing": ("0 to 1", lambda value: 0 <= value <= 1),
    "dropout": _SHARE,
    "ema": _SHARE,
    "clip": _POSITIVE,
    "accumulate": _at_least(1),
    "unfreeze_every": _at_least(1),
    "patience": _at_least(1),
}
