"""Options of the stages that use a run."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frostline.errors import OptionError
from frostline.options import argument, option
from frostline.pipeline.options.extraction import AnyPrecision, EngineOptions
from frostline.pipeline.options.sources import RemoteOptions
from frostline.pipeline.options.trust import TrustOptions

if TYPE_CHECKING:
    from frostline.features.table import ImageSource


@dataclass(frozen=True)
class PredictOptions(TrustOptions, EngineOptions, RemoteOptions):
    """Options of `frostline.predict`."""

    images: "str | Path | Sequence[str | Path] | ImageSource | None" = argument(
        "Images, and folders to search for images, as paths or URLs; or one data set as `extract` reads it, or an image"
        " source. Labels are not read",
        None,
    )
    _: KW_ONLY
    cache: str | Path | None = option(
        None,
        "Label the rows of a cache in place of images. Its features must be those that the run was trained on, or imported"
        " under the same name and facts.",
        metavar="CACHE[+CACHE...]",
    )
    features: Any = argument(
        "(n, d) array of features in place of images, as the head reads them; or a mapping of layer to such arrays",
        None,
    )
    top_k: int = option(5, "Classes listed per image.", low=1, metavar="K")
    reject: float | None = option(
        None,
        "Give no label to images that are like none of the known classes, by a distance whose threshold rejects at most"
        " this share of the images of known classes, such as 0.05.",
        above=0,
        below=1,
        unset="label every image",
        metavar="RATE",
    )
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

    def __post_init__(self) -> None:
        super().__post_init__()
        given = {"images": self.images, "cache": self.cache, "features": self.features}
        named = [name for name, value in given.items() if value is not None]
        if len(named) != 1:
            raise OptionError(
                f"expected images, a cache or features, got {' and '.join(named) or 'none of them'}"
            )
