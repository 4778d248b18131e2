"""Options of the stages that train heads on cached features."""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Literal

from frostline.errors import OptionError
from frostline.options import option, seed_option
from frostline.pipeline.options.learning.splits import SplitOptions
from frostline.pipeline.options.stage import StageOptions
from frostline.pipeline.options.trust import TrustOptions

HEAD_DEVICES = "[auto|cpu|cuda|cuda:N|mps]"

Search = Literal["grid", "random", "halving", "optuna"]


@dataclass(frozen=True)
class HeadOptions(TrustOptions):
    """Options of a head."""

    head: str = option(
        "linear",
        "Kind of head; module:Class is any scikit-learn classifier, of a module named with --trust-module.",
        names="frostline.classifiers.heads.catalog:HEADS",
        metavar="module:Class",
    )
    _: KW_ONLY
    params: Mapping[str, Any] | None = option(
        None,
        "Fix a hyper-parameter of the head. Repeat to fix several.",
        unset="those that the stage chooses",
        flag="param",
        metavar="K=V",
    )
    layer: str | None = option(
        None,
        "Layer of the cache, required if it holds several; a+b joins two.",
        metavar="L",
    )
    with_columns: Sequence[str] = option(
        (),
        "Side columns of the data that the head reads beside the features, separated by commas. Numbers are"
        " standardised on the training rows, texts and NAME:category become one feature per category.",
        metavar="NAME[,NAME]",
    )
    seed: int = seed_option("Random seed.")
    device: str = option("auto", "Device that trains linear and mlp.", metavar=HEAD_DEVICES)


@dataclass(frozen=True, kw_only=True)
class JobsOptions(StageOptions):
    """The option of a stage that fits many heads."""

    jobs: int | None = option(
        None, "Processes that fit heads; -1 for one per core.", low=-1, unset="1", metavar="N"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.jobs == 0:
            raise OptionError("jobs: got 0, expected a number of processes, or -1 for one per core")


@dataclass(frozen=True)
class TrainHeadOptions(SplitOptions, JobsOptions, HeadOptions):
    """Options of `frostline.train_head`."""

    _: KW_ONLY
    layer: str | None = option(
        None,
        "Layer of the cache, required if it holds several. a+b joins two; all tries each layer and all of them"
        " joined. Of joined caches, the layer of that name of each, and 2/L that of the second alone.",
        metavar="L",
    )
    project: str | None = option(
        None,
        "Project the features first: pca:256 or random:256, fitted on the training rows and saved with the head.",
        metavar="METHOD:WIDTH",
    )
    search: Search | None = option(
        None,
        "How to choose the hyper-parameters that --param does not fix.",
        unset="the head's own method; grid with --cv",
    )
    trials: int | None = option(
        None, "Number of candidates of the search.", low=1, unset="all of a grid, else 30", metavar="N"
    )
    cv: int | None = option(
        None,
        "Cross-validate candidates on K folds of train and val, with copies and groups kept together.",
        low=2,
        unset="score on val",
        metavar="K",
    )
    memory: int | None = option(
        None,
        "Memory limit of the features, e.g. 2GB; linear streams larger ones in blocks, other heads refuse them.",
        low=1,
        unset="half of the machine's memory",
        metavar="SIZE",
        parse="frostline.pipeline.hosts.memory:parse_memory",
    )
    run: str | Path | None = option(
        None, "Run directory to write.", unset="runs/CACHE-HEAD", metavar="DIR", setting=False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.trials is not None or self.jobs is not None) and not self.searches:
            raise OptionError("trials and jobs need a search: add --search or --cv")

    @property
    def searches(self) -> bool:
        """Whether hyper-parameters are searched by a method other than the head's own."""
        return self.search is not None or self.cv is not None


@dataclass(frozen=True)
class SampleSizeOptions(SplitOptions, JobsOptions, HeadOptions):
    """Options that few-shot and learning-curve share."""

    _: KW_ONLY
    out: str | Path | None = option(
        None, "Output folder.", unset="a new one under runs/", metavar="DIR", setting=False
    )


@dataclass(frozen=True)
class FewShotOptions(SampleSizeOptions):
    """Options of `frostline.few_shot`."""

    _: KW_ONLY
    shots: Sequence[int] = option(
        (1, 5), "Training images per class. Repeat to measure several.", low=1, metavar="K"
    )
    episodes: int = option(100, "Random draws for each K.", low=2, metavar="E")


@dataclass(frozen=True)
class LearningCurveOptions(SampleSizeOptions):
    """Options of `frostline.learning_curve`."""

    _: KW_ONLY
    points: int = option(
        8, "Number of sizes: all training images, half of them, a quarter, ...", low=2, metavar="N"
    )
    draws: int = option(5, "Number of random orders of the images.", low=2, metavar="N")
