"""Options of the stage that suggests images to label."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from frostline.errors import OptionError
from frostline.options import argument, option, seed_option
from frostline.pipeline.options.learning.heads import HEAD_DEVICES
from frostline.pipeline.options.learning.splits import SplitOptions
from frostline.pipeline.options.trust import TrustOptions
from frostline.pipeline.options.vectors.search import DeclaredSplit, SearchMetric

if TYPE_CHECKING:
    from frostline.features.table import ImageSource


SuggestRule = Literal["coreset", "uncertainty", "both"]
Uncertainty = Literal["margin", "entropy"]


@dataclass(frozen=True)
class SuggestOptions(SplitOptions, TrustOptions):
    """Options of `frostline.suggest`."""

    n: int = option(100, "Images to suggest.", low=1, metavar="N")
    _: KW_ONLY
    run: str | Path | None = option(
        None, "Run whose predictions are uncertain; needed by uncertainty and both.", metavar="RUN"
    )
    by: SuggestRule | None = option(
        None,
        "coreset: far from the labelled images and from each other. uncertainty: the run is least certain. both: the least"
        " certain ones of different clusters.",
        unset="both with --run, else coreset",
    )
    uncertainty: Uncertainty = option(
        "margin", "Measure: 1 - the difference of the two largest probabilities, or the entropy of all."
    )
    pool: int = option(
        10,
        "The images that both chooses among: this many times -n, the least certain ones.",
        low=1,
        metavar="K",
    )
    layer: str | None = option(
        None,
        "Layer to compare images in, required if the cache holds several; a+b joins two.",
        unset="that of the run, or the only one",
        metavar="L",
    )
    metric: SearchMetric = option(
        "cosine", "Distance of two images: cosine is 1 - the cosine of their centred features."
    )
    in_split: DeclaredSplit | None = option(
        None,
        "Suggest only images that the data set declares to be in this split.",
        unset="all images that are not declared to be in test",
    )
    seed: int = seed_option("Random seed of the clusters, and of the first image if none is labelled.")
    with_labelled: bool = option(
        False,
        "Add the labelled images to the manifest, with their labels, so that it is a whole data set when it is filled in.",
    )
    listing: str | Path | None = option(
        None,
        "Write the suggestions as CSV: rank, image, distance, predicted class.",
        flag="list",
        metavar="FILE.csv",
        setting=False,
    )
    out: str | Path | None = option(
        None,
        "Write a manifest of the images with labels to fill in (.csv), a page (.html) or a contact sheet (.png); all of"
        " them and the list into a folder.",
        metavar="FILE|FOLDER",
        setting=False,
    )
    device: str = option("auto", "Device of the comparison.", metavar=HEAD_DEVICES)
    source: "ImageSource | None" = argument(
        "Source of the images of the cache; required only for one that can't be opened by its name", None
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rule == "coreset" and self.run is not None:
            raise OptionError(
                "run: --by coreset compares vectors only; leave out --run, or choose both or uncertainty"
            )
        if self.rule != "coreset" and self.run is None:
            raise OptionError(f"by: {self.rule} needs the predictions of a run; name it with --run")
        if self.rule == "uncertainty" and self.layer is not None:
            raise OptionError("layer: --by uncertainty compares no vectors, and the run reads its own layer")

    @property
    def rule(self) -> SuggestRule:
        """How images are chosen."""
        return self.by or ("coreset" if self.run is None else "both")
