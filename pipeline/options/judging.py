"""Options of the stages that use a run."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from frostline.options import argument, option
from frostline.pipeline.options.extraction import AnyPrecision, EngineOptions
from frostline.pipeline.options.sources import RemoteOptions
from frostline.pipeline.options.trust import TrustOptions

if TYPE_CHECKING:
    from frostline.features.table import ImageSource


@dataclass(frozen=True)
class PredictOptions(TrustOptions, EngineOptions, RemoteOptions):
    """Options of `frostline.predict`."""

    images: "str | Path | Sequence[str | Path] | ImageSource" = argument(
        "Images, and folders to search for images, as paths or URLs; or one data set as `extract` reads it, or an image"
        " source. Labels are not read"
    )
    _: KW_ONLY
    top_k: int = option(5, "Classes listed per image.", low=1, metavar="K")
    weights: Sequence[str | Path] = option(
        (),
        "Weights of the backbone, if the file was moved. Repeat for a run on several backbones, in their order.",
        metavar="FILE",
    )
    engine: str = option(
        "auto",
        "Engine that executes the forward pass; auto: the one that computed the features of the run, else the"
        " fastest that agrees with it.",
        names="frostline.features.engines.engine:ENGINES",
        words=("auto",),
    )
    precision: AnyPrecision = option(
        "auto", "Number format of the forward pass; auto: that of the features the run was trained on."
    )
