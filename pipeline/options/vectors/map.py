"""Options of the map of a cache."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from frostline.options import argument, option, seed_option
from frostline.pipeline.options.learning.splits import SplitOptions

if TYPE_CHECKING:
    from frostline.features.table import ImageSource

MapMethod = Literal["pca", "tsne", "umap"]

MOST_POINTS: Final = {"pca": 100_000, "tsne": 20_000, "umap": 50_000}
"""Largest number of points of each method; larger caches are sampled."""
MOST_THUMBNAILS: Final = 20_000
"""Largest number of thumbnails, unless the user names another."""


def thumbnail_count(text: str) -> int:
    """Return the number of thumbnails that a text names: a number, or ``none``.

    Raises:
        ValueError: The text is neither.
    """
    if text == "none":
        return 0
    if not text.isdecimal():
        raise ValueError(f"got {text!r}, expected a number or none")
    return int(text)


@dataclass(frozen=True, kw_only=True)
class MapOptions(SplitOptions):
    """Options of `frostline.map_cache`."""

    method: MapMethod = option(
        "pca",
        "Projection to two dimensions: pca is fast and keeps large distances; tsne and umap show groups of similar images."
        " umap needs frostline[umap].",
    )
    layer: str | None = option(
        None,
        "Layer to draw, or several joined by +; required if the cache holds several and no run is named.",
        metavar="L",
    )
    run: str | Path | None = option(
        None,
        "Colour by the mistakes of this run, in the predictions that it recorded: for validation images, and for test"
        " images once it was evaluated.",
        metavar="RUN",
    )
    out: str | Path | None = option(
        "map.html",
        "File to write, an existing one is replaced: a page (.html), or a table of the coordinates (.csv); both into a"
        " folder.",
        metavar="FILE|FOLDER",
        setting=False,
    )
    limit: int | None = option(
        None,
        "Largest number of points; of a larger cache a sample is drawn, from each class in proportion.",
        low=3,
        unset=", ".join(f"{count:,} with {method}" for method, count in MOST_POINTS.items()),
        metavar="N",
    )
    thumbnails: int | None = option(
        None,
        "Points with a thumbnail, or none; more of them are smaller, because all together take at most 14 MiB.",
        low=0,
        unset=f"all, up to {MOST_THUMBNAILS:,}",
        parse="frostline.pipeline.options.vectors.map:thumbnail_count",
        metavar="N|none",
    )
    seed: int = seed_option("Random seed of the sample and of the projection.")
    workers: int | None = option(
        None, "Decoding threads.", low=1, unset="one per core", metavar="N", setting=False
    )
    source: "ImageSource | None" = argument(
        "Source of the images of the cache; required only for one that can't be opened by its name", None
    )
