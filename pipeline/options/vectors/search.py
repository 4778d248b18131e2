"""Options of the search stage."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from frostline.options import argument, option
from frostline.pipeline.options.extraction import AnyDevice, AnyPrecision, EngineOptions
from frostline.pipeline.options.sources import RemoteOptions

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from frostline.features.sources import Images
    from frostline.features.table import ImageSource

SearchMetric = Literal["cosine", "euclidean"]
DeclaredSplit = Literal["train", "val", "test"]


@dataclass(frozen=True)
class SearchOptions(EngineOptions, RemoteOptions):
    """Options of `frostline.search`."""

    images: "str | Path | Sequence[str | Path] | ImageSource | Images" = argument(
        "New images to search for, and folders to search for images; or an image source, or the images themselves",
        (),
    )
    _: KW_ONLY
    row: Sequence[str] = option(
        (), "Image of the cache to search for, by its id. Repeat for several.", metavar="ID"
    )
    vectors: "ArrayLike | None" = argument("(q, dim) vectors to search for", None)
    k: int = option(20, "Nearest images to find for each query.", low=1, metavar="K")
    layer: str | None = option(
        None, "Layer to compare images in; required if the cache holds several.", metavar="L"
    )
    metric: SearchMetric = option(
        "cosine", "Distance of two images: cosine is 1 - the cosine of their features, without centring."
    )
    in_split: DeclaredSplit | None = option(
        None, "Search only the images that the data set declares to be in this split.", unset="all images"
    )
    classes: Sequence[str] = option(
        (), "Search only the images of this class. Repeat for several.", flag="class", metavar="NAME"
    )
    include_self: bool = option(False, "Let an image of the cache be among its own neighbours.")
    weights: str | Path | None = option(
        None, "Weights of the backbone, if the file was moved.", unset="those of the cache", metavar="FILE"
    )
    engine: str = option(
        "auto",
        "Engine that executes the forward pass; auto: the one that computed the features of the cache, else the"
        " fastest that agrees with it.",
        names="frostline.features.engines.engine:ENGINES",
        words=("auto",),
    )
    precision: AnyPrecision = option(
        "auto", "Number format of the forward pass; auto: that of the features of the cache."
    )
    device: AnyDevice = option("auto", "Device that runs the network and the search.")
    out: str | Path | None = option(
        None,
        "Write the result: a table (.csv), a page (.html) or a contact sheet (.png); all three into a folder.",
        metavar="FILE|FOLDER",
        setting=False,
    )
    source: "ImageSource | None" = argument(
        "Source of the images of the cache, for the thumbnails; required only for one that can't be opened by its name",
        None,
    )
