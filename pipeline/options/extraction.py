"""Options of the extract stage, and those that other stages share with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from frostline.features.spec import MIN_COSINE, Dtype, Precision
from frostline.options import option, seed_option
from frostline.pipeline.options.sources import SourceOptions
from frostline.pipeline.options.stage import StageOptions

if TYPE_CHECKING:
    from frostline.features.cache import Part

DEFAULT_BACKBONE = "efficientnet_lite0"

AnyDevice = Literal["auto", "cpu", "cuda", "mps"]
AnyPrecision = Literal["auto", Precision]


@dataclass(frozen=True, kw_only=True)
class BackboneOptions(StageOptions):
    """Options that name a backbone."""

    backbone: str = option(DEFAULT_BACKBONE, "Name of the backbone; see: frostline backbones.")
    weights: str | Path | None = option(
        None,
        "Local weights file (safetensors, or torch without pickled code), or random:SEED.",
        unset="the pretrained weights",
        metavar="FILE",
    )
    image_size: int | None = option(
        None,
        "Side of the network's square input in pixels.",
        low=1,
        unset="the size its weights were trained with",
        metavar="PIXELS",
    )


@dataclass(frozen=True, kw_only=True)
class EngineOptions(StageOptions):
    """Options of the forward pass."""

    engine: str = option(
        "auto",
        "Engine that executes the forward pass; auto: that of an existing cache, else the fastest for the number of"
        " images.",
        names="frostline.features.engines.engine:ENGINES",
        words=("auto",),
    )
    precision: AnyPrecision = option(
        "auto",
        "Number format of the forward pass; auto: that of an existing cache, else the fastest that reaches"
        " --min-cosine.",
    )
    device: AnyDevice = option("auto", "Device that runs the network.")
    batch_size: int | None = option(
        None, "Images per forward pass.", low=1, unset="depending on the device", metavar="N"
    )
    workers: int | None = option(
        None, "Decoding threads.", low=1, unset="one per core", metavar="N", setting=False
    )


@dataclass(frozen=True, kw_only=True)
class CacheOptions(EngineOptions):
    """Options of the computation of a cache."""

    min_cosine: float = option(
        MIN_COSINE,
        "Smallest cosine similarity to eager fp32 that auto accepts, checked on a sample of the images.",
        low=0,
        high=1,
        metavar="C",
    )
    store: Dtype | None = option(
        None, "Number format in the file.", unset="that of an existing cache, else float32"
    )
    decoder: str = option(
        "exact",
        "exact: the pixels of the reference transform; fast: up to twice as fast, each pixel within 3 of 255.",
        names="frostline.features.images.decoders:DECODERS",
    )
    views: int = option(
        1,
        "Versions of each image to store: the image itself and K - 1 random crops, for finetune.",
        low=1,
        metavar="K",
    )
    seed: int = seed_option("Random seed of the views.")
    part: "Part | None" = option(
        None,
        "Compute only the i-th of N parts of the rows, into a separate file; see: frostline cache merge.",
        unset="from torchrun's RANK and WORLD_SIZE",
        metavar="i/N",
        parse="frostline.features.cache:Part.parse",
        setting=False,
    )
    rehash: bool = option(
        False, "Read every image again, and recompute those whose bytes have changed.", setting=False
    )
    overwrite: bool = option(
        False,
        "Replace a cache made with other settings or of another data set; check every byte of one made with these.",
        setting=False,
    )


@dataclass(frozen=True, kw_only=True)
class ImageOptions(SourceOptions):
    """Options of the images to read."""

    max_bad: float = option(
        0.01, "Fail if more than this share of the images is unreadable.", low=0, high=1, metavar="SHARE"
    )


@dataclass(frozen=True, kw_only=True)
class ExtractOptions(ImageOptions, CacheOptions, BackboneOptions):
    """Options of `frostline.extract`."""

    layers: Sequence[str] = option(
        ("embedding",),
        "Layer to store, pooled by avg, max, gem, cls or none. Repeat to store several in one pass.",
        flag="layer",
        metavar="L[:POOL]",
    )
    cache: str | Path | None = option(
        None, "Cache to write.", unset="DATA.BACKBONE.h5", metavar="FILE", setting=False
    )
