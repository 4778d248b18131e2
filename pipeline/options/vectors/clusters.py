"""Options of the clusters stage."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from frostline.errors import OptionError
from frostline.options import argument, option, seed_option
from frostline.pipeline.options.learning.splits import SplitOptions
from frostline.pipeline.options.vectors.search import SearchMetric

if TYPE_CHECKING:
    from frostline.features.table import ImageSource

ClusterMethod = Literal["kmeans", "mini-batch", "agglomerative", "hdbscan"]


@dataclass(frozen=True, kw_only=True)
class ClusterOptions(SplitOptions):
    """Options of `frostline.clusters`."""

    method: ClusterMethod = option(
        "kmeans",
        "kmeans; mini-batch: k-means on blocks, for data larger than memory; agglomerative: Ward's criterion, for some"
        " thousand images; hdbscan: dense regions, with noise between them.",
    )
    count: int | str | None = option(
        None,
        "Number of clusters; auto: the one of 2, 3, 4, 6, 8, 12, ... 64 with the largest silhouette. hdbscan takes none.",
        low=1,
        unset="the number of classes of the labelled images",
        metavar="K|auto",
        parse="frostline.pipeline.options.vectors.clusters:parse_count",
    )
    smallest: int = option(5, "Smallest size of a cluster of hdbscan.", low=2, metavar="N")
    layer: str | None = option(None, "Layer to cluster; required if the cache holds several.", metavar="L")
    metric: SearchMetric = option(
        "cosine", "cosine: cluster centred features of unit length; euclidean: the features as they are."
    )
    project: str | None = option(
        None,
        "Project the features first: pca:64 or random:64, fitted to at most 65,536 images.",
        metavar="METHOD:WIDTH",
    )
    seed: int = seed_option("Random seed.")
    top: int = option(8, "Images nearest the centre of each cluster to show.", low=1, metavar="N")
    out: str | Path | None = option(
        None,
        "Write the result: a table of all images (.csv), a page (.html) or a contact sheet (.png) with a strip per"
        " cluster; all three into a folder.",
        metavar="FILE|FOLDER",
        setting=False,
    )
    source: "ImageSource | None" = argument(
        "Source of the images of the cache; required only for one that can't be opened by its name", None
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method == "hdbscan" and self.count is not None:
            raise OptionError(
                "count: hdbscan finds the number of clusters itself; --smallest sets their smallest size"
            )


def parse_count(text: str) -> int | str:
    """Return ``auto`` or a number of clusters.

    Raises:
        ValueError: The text is neither.
    """
    if text == "auto":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"got {text!r}, expected auto, or a whole number of at least 1")
    return int(text)
