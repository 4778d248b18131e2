"""Options of the stages that run or compare many runs."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Literal

from frostline.errors import OptionError
from frostline.options import option, seed_option
from frostline.pipeline.options.cluster import ClusterOptions
from frostline.pipeline.options.stage import StageOptions
from frostline.pipeline.options.trust import TrustOptions

On = Literal["auto", "validation", "test"]
Sort = Literal[
    "accuracy",
    "validation",
    "test",
    "name",
    "parameters",
    "gflops",
    "width",
    "extraction",
    "rate",
    "training",
    "total",
    "cache",
]
MapKind = Literal["pca", "tsne", "umap", "none"]


@dataclass(frozen=True, kw_only=True)
class PlanOptions(TrustOptions):
    """Options of `frostline.plan_batch`."""

    jobs: int = option(
        1, "Processes, which share the cores and memory of the machine.", low=1, metavar="N", setting=False
    )


@dataclass(frozen=True, kw_only=True)
class BatchOptions(PlanOptions, ClusterOptions):
    """Options of `frostline.batch`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cluster is not None and self.jobs != 1:
            raise OptionError(
                f"jobs: got {self.jobs}, expected 1 with a cluster, whose workers set the number of jobs"
            )


@dataclass(frozen=True, kw_only=True)
class ComparisonOptions(StageOptions):
    """Options of comparisons of runs."""

    on: On = option("auto", "Rows to compare on; auto: test if every run was evaluated, else validation.")


@dataclass(frozen=True, kw_only=True)
class CompareOptions(ComparisonOptions):
    """Options of `frostline.compare`."""

    sort: Sort = option(
        "accuracy", "Sort key; the most accurate, the fastest or the smallest run comes first."
    )


@dataclass(frozen=True)
class ReportOptions(ComparisonOptions):
    """Options of `frostline.write_report`."""

    out: str | Path = option(
        "report.html", "File to write; an existing one is replaced.", metavar="FILE", setting=False
    )
    _: KW_ONLY
    map: MapKind = option(
        "pca",
        "Projection of the features to two dimensions; tsne and umap take longer, and umap needs frostline[umap].",
    )
    title: str = option("Frostline report", "Title of the page.", metavar="TEXT")
    seed: int = seed_option("Random seed of the maps.")
