"""Options of the export of a cache."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from frostline.options import argument, option
from frostline.pipeline.options.stage import StageOptions

if TYPE_CHECKING:
    from frostline.features.table import ImageSource


@dataclass(frozen=True, kw_only=True)
class ExportOptions(StageOptions):
    """Options of `frostline.export_cache`."""

    to: str = option("parquet", "Format.", names="frostline.pipeline.exporting.exporters:EXPORTERS")
    out: str | Path | None = option(
        None,
        "File or folder to write.",
        unset="the name of the cache, with the ending of the format, in the current folder",
        metavar="PATH",
        setting=False,
    )
    layer: Sequence[str] = option((), "Layer to write. Repeat for several.  [default: all]", metavar="L")
    split: Sequence[Literal["train", "val", "test", "none"]] = option(
        (), "Write only the rows that the data set declares to be of this split. Repeat for several."
    )
    view: int = option(0, "Augmented view to write; 0 is the image itself.", low=0)
    metric: Literal["cosine", "euclidean"] = option(
        "cosine",
        "Of faiss: cosine writes vectors of length 1 for an inner product, euclidean the vectors as they are.",
    )
    shard_rows: int = option(10_000, "Of webdataset: samples in a shard.", low=1)
    sprite: bool = option(
        False,
        "Of tensorboard: write thumbnails too; a cell of an image that can't be read is empty.",
    )
    overwrite: bool = option(False, "Replace an earlier export.", setting=False)
    source: "ImageSource | None" = argument(
        "Source of the images, for the thumbnails; required only for one that can't be opened by its name",
        None,
    )
