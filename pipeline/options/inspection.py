"""Options of the stages that inspect caches."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from frostline.classifiers.inspection.near import NEAR
from frostline.options import argument, option, seed_option
from frostline.pipeline.options.learning.heads import HEAD_DEVICES
from frostline.pipeline.options.learning.splits import SplitOptions
from frostline.pipeline.options.trust import TrustOptions

if TYPE_CHECKING:
    from frostline.features.table import ImageSource

Transferability = Literal["log_me", "h_score", "one_nn", "leep", "nce"]


@dataclass(frozen=True, kw_only=True)
class CheckOptions(SplitOptions):
    """Options of `frostline.check_cache`."""

    layer: str | None = option(
        None, "Layer to compare images in; required if the cache holds several.", metavar="L"
    )
    threshold: float = option(
        NEAR,
        "Smallest cosine similarity of centred features that counts as a near-duplicate.",
        above=-1,
        high=1,
        metavar="COSINE",
    )
    max_pairs: int = option(1000, "Maximum number of near-duplicates to list.", low=1, metavar="N")
    out: str | Path | None = option(
        None,
        "Draw the most similar pairs into DIR/near-duplicates.png.",
        metavar="DIR",
        setting=False,
    )
    source: "ImageSource | None" = argument(
        "Source of the images, for the thumbnails; required only for one that can't be opened by its name",
        None,
    )


@dataclass(frozen=True, kw_only=True)
class LabelErrorOptions(SplitOptions, TrustOptions):
    """Options of `frostline.label_errors`."""

    head: str = option(
        "linear",
        "Kind of head that scores the labels, at its defaults; it must predict probabilities.",
        names="frostline.classifiers.heads.catalog:HEADS",
        metavar="module:Class",
    )
    layer: str | None = option(
        None, "Layer of the cache, required if it holds several; a+b joins two.", metavar="L"
    )
    folds: int = option(5, "Number of folds.", low=2, metavar="K")
    seed: int = seed_option("Random seed of the folds and the head.")
    device: str = option("auto", "Device that trains linear and mlp.", metavar=HEAD_DEVICES)
    out: str | Path | None = option(None, "Folder for thumbnails and a table.", metavar="DIR", setting=False)
    source: "ImageSource | None" = argument(
        "Source of the images, for the thumbnails; required only for one that can't be opened by its name",
        None,
    )


@dataclass(frozen=True, kw_only=True)
class RankOptions(SplitOptions):
    """Options of `frostline.rank`."""

    layer: str | None = option(
        "all",
        "Layer of each cache, or several joined by +; all scores every layer separately.",
        metavar="L",
    )
    by: Transferability = option("log_me", "Score to rank by; layers without it come last.")
    device: str = option("auto", "Device for the nearest-neighbour search.", metavar=HEAD_DEVICES)
