"""Options of the finetune stage."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from frostline.errors import OptionError
from frostline.options import nested, option
from frostline.pipeline.options.extraction import AnyDevice, BackboneOptions, ImageOptions
from frostline.pipeline.options.learning.recipe import Recipe
from frostline.pipeline.options.learning.splits import SplitOptions
from frostline.pipeline.options.stage import StageOptions

LogTo = Literal["tensorboard", "mlflow"]


@dataclass(frozen=True, kw_only=True)
class TuningOptions(StageOptions):
    """Options of a training of a network, apart from the network, the images and the recipe."""

    from_run: str | Path | None = option(
        None,
        "Start from the fine-tuned network of this run, or from its linear head, which is fitted again on the training"
        " rows alone because epochs are selected on validation (LP-FT, Kumar et al. 2022).",
        unset="a new head",
        metavar="RUN",
    )
    from_scratch: bool = option(False, "Start from random weights, drawn with the random seed.")
    cached: bool | None = option(
        None,
        "Compute the output of the frozen stages once, in the precision of the passes, store it in float16, and train on"
        " it.",
        unset="if the frost line is fixed and nothing random lies below it",
    )
    caches: str | Path = option(".", "Folder for the stored output of the frozen stages.", setting=False)
    run: str | Path | None = option(
        None, "Run directory to write.", unset="runs/DATA.BACKBONE-finetune", metavar="DIR", setting=False
    )
    device: AnyDevice = option("auto", "Device that trains the network.")
    workers: int | None = option(
        None,
        "Decoding processes; 0 decodes in the main process.",
        low=0,
        unset="one per core",
        metavar="N",
        setting=False,
    )
    log_to: LogTo | None = option(
        None,
        "Also log to TensorBoard or MLflow, beside the run's own table and plot.",
        unset="neither",
        setting=False,
    )
    restart: bool = option(False, "Discard an unfinished training of the same run.", setting=False)


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(SplitOptions, ImageOptions, TuningOptions, BackboneOptions):
    """Options of `frostline.finetune`."""

    recipe: Recipe = nested(Recipe(), "Settings of the training")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.recipe, Recipe):
            raise OptionError(f"recipe: got {self.recipe!r}, expected a Recipe")
