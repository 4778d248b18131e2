"""Options of the stages that find duplicates and outliers."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from frostline.classifiers.inspection.near import SAME
from frostline.options import argument, option
from frostline.pipeline.options.learning.heads import HEAD_DEVICES
from frostline.pipeline.options.learning.splits import SplitOptions
from frostline.pipeline.options.stage import StageOptions
from frostline.pipeline.options.vectors.search import SearchMetric

if TYPE_CHECKING:
    from frostline.features.table import ImageSource

Keep = Literal["largest", "first", "sharpest"]


@dataclass(frozen=True, kw_only=True)
class DedupeOptions(SplitOptions):
    """Options of `frostline.dedupe`."""

    layer: str | None = option(
        None, "Layer to compare images in; required if the cache holds several.", metavar="L"
    )
    threshold: float = option(
        SAME,
        "Smallest cosine similarity of centred features that joins two images.",
        above=-1,
        high=1,
        metavar="COSINE",
    )
    keep: Keep = option(
        "largest", "Image of each group to keep: the one with most pixels, the first by id, or the sharpest."
    )
    listing: str | Path | None = option(
        None,
        "Write all groups as CSV: group, image, kept, similarity.",
        flag="list",
        metavar="FILE.csv",
        setting=False,
    )
    out: str | Path | None = option(
        None,
        "Write a manifest without the dropped images (.csv), a page (.html) or a contact sheet (.png) of the groups;"
        " all of them and the list into a folder.",
        metavar="FILE|FOLDER",
        setting=False,
    )
    device: str = option("auto", "Device of the comparison.", metavar=HEAD_DEVICES)
    workers: int | None = option(
        None, "Decoding threads.", low=1, unset="one per core", metavar="N", setting=False
    )
    source: "ImageSource | None" = argument(
        "Source of the images of the cache; required only for one that can't be opened by its name", None
    )


@dataclass(frozen=True, kw_only=True)
class OutlierOptions(StageOptions):
    """Options of `frostline.outliers`."""

    layer: str | None = option(
        None, "Layer to compare images in; required if the cache holds several.", metavar="L"
    )
    k: int = option(10, "Neighbour whose distance counts.", low=1, metavar="K")
    metric: SearchMetric = option("cosine", "Distance of two images.")
    threshold: float = option(
        3.5,
        "Smallest modified z-score of an outlier (median and MAD in place of mean and deviation).",
        above=0,
        metavar="Z",
    )
    top: int | None = option(
        None,
        "List the N most extreme images of each kind instead of those beyond the thresholds.",
        low=1,
        unset="those beyond the thresholds",
        metavar="N",
    )
    dark: float = option(
        0.32,
        "An image is dark if 99 % of its pixels have at most this brightness, from 0 to 1.",
        low=0,
        high=1,
        metavar="SHARE",
    )
    images: bool = option(
        True, "Read the images too, for dark and blurred ones and for odd sizes and shapes.", negatable=True
    )
    out: str | Path | None = option(
        None,
        "Write the result: a table (.csv), a page (.html) or a contact sheet (.png); all three into a folder.",
        metavar="FILE|FOLDER",
        setting=False,
    )
    device: str = option("auto", "Device of the comparison.", metavar=HEAD_DEVICES)
    workers: int | None = option(
        None, "Decoding threads.", low=1, unset="one per core", metavar="N", setting=False
    )
    source: "ImageSource | None" = argument(
        "Source of the images of the cache; required only for one that can't be opened by its name", None
    )
