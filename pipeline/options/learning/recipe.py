"""The recipe of a training: all settings that the result depends on, apart from the data and the network."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from frostline.options import Options, described, option, seed_option
from frostline.pipeline.errors import RecipeError
from frostline.pipeline.options.extraction import AnyPrecision

_BASE_BATCH = 128  # images per update that the default learning rates refer to
_DEFAULT_LR = {("sgd", False): 0.02, ("sgd", True): 0.1, ("adamw", False): 5e-4, ("adamw", True): 1e-3}
_BACKBONE_SHARE = 0.1  # pretrained weights need smaller steps than a new head
_DEFAULT_DECAY = {"sgd": 5e-4, "adamw": 0.05}


@described
@dataclass(frozen=True, kw_only=True)
class Recipe(Options):
    """Settings of a training.

    Args:
        options: All settings.

    Raises:
        RecipeError: A value is not valid, or two values exclude each other.
    """

    error = RecipeError

    frost_line: str = option(
        "none",
        "Last stage that stays frozen; see: frostline backbones NAME --stages.",
        metavar="STAGE|none|all",
    )
    unfreeze_every: int | None = option(
        None,
        "Move the frost line down by one stage every N epochs.",
        low=1,
        unset="a fixed frost line",
    )
    epochs: int = option(10, "Passes over the training images.", low=1)
    batch_size: int = option(64, "Images per update, summed over all processes and accumulated steps.", low=1)
    accumulate: int = option(1, "Steps that each update is divided into, to save memory.", low=1)
    optimizer: Literal["sgd", "adamw"] = option(
        "sgd", "Optimizer: sgd with momentum, or adamw (Loshchilov & Hutter 2019)."
    )
    lr: float | None = option(
        None,
        "Peak learning rate of the head.",
        above=0,
        unset="that of the optimizer, in proportion to the batch size (Goyal et al. 2017): for 64 images sgd 0.01, or"
        " 0.05 from scratch, and adamw 0.00025, or 0.0005 from scratch",
    )
    momentum: float = option(0.9, "Momentum of sgd.", low=0, below=1)
    nesterov: bool = option(True, "Use Nesterov momentum (sgd only).")
    weight_decay: float | None = option(
        None,
        "Weight decay of the weights that multiply the inputs of layers; norms, biases, layer scales, tokens and"
        " positions are exempt.",
        low=0,
        unset="sgd 0.0005, adamw 0.05",
    )
    backbone_lr: float | None = option(
        None,
        "Learning rate of the backbone relative to that of the head.",
        above=0,
        high=1,
        unset="0.1, or 1 from scratch",
    )
    layer_decay: float = option(
        1.0,
        "Factor of the learning rate from each stage of the backbone to the one below.",
        above=0,
        high=1,
    )
    schedule: Literal["cosine", "step", "onecycle", "constant"] = option(
        "cosine",
        "Learning rate schedule. cosine decays to 0. step divides by ten at 60 % and at 85 % of the epochs. onecycle is"
        " that of Smith & Topin 2018 with constant momentum and a warm-up of its own. constant keeps the rate.",
    )
    warmup: float = option(
        1.0,
        "Warm-up epochs, included in --epochs, in which the learning rate rises from a hundredth of its peak.",
        low=0,
        metavar="EPOCHS",
    )
    augment: Literal["none", "flip", "shift", "crop"] = option(
        "crop",
        "Augmentation of training images. flip mirrors at random. shift also moves by up to an eighth of the side, for"
        " small images. crop flips and resizes a random part of at least 35 % of the area (Szegedy et al. 2015).",
    )
    views: int = option(
        1,
        "Versions of each image to cache below a frost line: the image itself and K - 1 random crops, of which each"
        " epoch draws one.",
        low=1,
        metavar="K",
    )
    randaugment: int = option(
        0,
        "Magnitude of two random operations (RandAugment, Cubuk et al. 2020); 0 for none.",
        low=0,
        high=30,
    )
    erasing: float = option(
        0.0,
        "Probability of greying out a random rectangle (Zhong et al. 2020).",
        low=0,
        high=1,
        metavar="P",
    )
    mixup: float = option(
        0.0,
        "Alpha of mixup, which blends two images and their labels (Zhang et al. 2018); 0 for none.",
        low=0,
        metavar="ALPHA",
    )
    cutmix: float = option(
        0.0,
        "Alpha of CutMix, which pastes a part of one image into another (Yun et al. 2019); 0 for none. With mixup as"
        " well, each batch draws one of the two.",
        low=0,
        metavar="ALPHA",
    )
    label_smoothing: float = option(
        0.0,
        "Share of each target that is spread evenly over all classes.",
        low=0,
        below=1,
        metavar="SHARE",
    )
    dropout: float = option(0.0, "Dropout probability before the head.", low=0, below=1, metavar="P")
    statistics: Literal["auto", "frozen", "batch"] = option(
        "auto",
        "Batch-norm statistics. frozen keeps the pretrained ones, so that training starts from the pretrained function."
        " batch uses those of each batch and updates the stored ones. auto is frozen unless training from scratch.",
    )
    ema: float | None = option(
        None,
        "Decay per update of a moving average of the weights, e.g. 0.999, which is then evaluated and kept.",
        low=0,
        below=1,
        unset="no average",
        metavar="DECAY",
    )
    clip: float | None = option(
        None, "Largest norm of the gradient.", above=0, unset="no clipping", metavar="NORM"
    )
    patience: int | None = option(
        None,
        "Stop after N epochs without improvement on validation.",
        low=1,
        unset="train all epochs",
    )
    compile: bool = option(False, "Compile the network with torch.compile.", negatable=True)
    precision: AnyPrecision = option(
        "auto",
        "Number format of the passes; auto: bf16 or fp16 on a GPU, else fp32. Weights are always fp32.",
    )
    seed: int = seed_option("Random seed.")

    def __post_init__(self) -> None:
        super().__post_init__()
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
