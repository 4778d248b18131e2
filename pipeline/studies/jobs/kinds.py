"""The jobs of a study: each writes one thing under a name of its own, and is done where that is there."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from frostline.features.cache.file.part import Part
from frostline.pipeline.errors import StudyError
from frostline.pipeline.progress import Reporter
from frostline.pipeline.runs.evaluation import EVALUATION_FILE
from frostline.pipeline.tuning.recipe import Recipe

if TYPE_CHECKING:
    from frostline.pipeline.runs.record import Scores

Stage = Literal["extract", "merge", "train-head", "search", "finetune"]
STAGES: tuple[Stage, ...] = ("extract", "merge", "train-head", "search", "finetune")
"""In the order in which they are run: the cheap ones first."""


@dataclass(frozen=True)
class Share:
    """What a job may use of its machine.

    Attributes:
        cores: Threads.
        memory: Bytes that features may take; None for as many as `train_head` takes by itself.
        forks: Whether it may start processes of its own; those of joblib and of a cluster can't.
    """

    cores: int | None = None
    memory: int | None = None
    forks: bool = True


@dataclass(frozen=True)
class Data:
    """A data set.

    Attributes:
        path: Folder or manifest, absolute.
        limit: Images to take; None for all.
        images: How many there are.
        classes: How many classes.
        fractions: Shares of train, val and test, where it comes without.
    """

    path: str
    limit: int | None
    images: int
    classes: int
    fractions: tuple[float, float, float]


@dataclass(frozen=True)
class Backbone:
    """A network, as `pipeline.extract` and `pipeline.finetune` take it."""

    backbone: str
    weights: str | None
    image_size: int | None


class Job(Protocol):
    """Something to do."""

    @property
    def stage(self) -> Stage:
        """Which command does it."""

    @property
    def path(self) -> Path:
        """What it writes; the name of that is the job's."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the jobs whose results it reads."""

    def done(self) -> bool:
        """Whether it is there; nothing is opened."""

    def run(self, share: Share, report: Reporter) -> float | None:
        """Do it, or go on with it; return the accuracy on validation, if it has one."""


@dataclass(frozen=True)
class Extraction:
    """A cache, or a part of one."""

    data: Data
    backbone: Backbone
    layers: tuple[str, ...]
    device: str
    cache: Path
    part: Part | None = None
    needs: tuple[str, ...] = ()
    stage: ClassVar[Stage] = "extract"

    @property
    def path(self) -> Path:
        """The cache, or its part."""
        return self.part.path(self.cache) if self.part else self.cache

    def done(self) -> bool:
        """Whether the file is there, which means that it is complete."""
        return self.path.exists()

    def run(self, share: Share, report: Reporter) -> None:
        """Compute what isn't there yet."""
        from frostline.pipeline.extraction.extract import extract

        self.cache.parent.mkdir(parents=True, exist_ok=True)
        extract(
            self.data.path,
            **dataclasses.asdict(self.backbone),
            layers=self.layers,
            cache=self.cache,
            device=self.device,
            limit=self.data.limit,
            workers=share.cores,
            part=self.part,
            report=report,
        )


@dataclass(frozen=True)
class Merge:
    """The parts of a cache, joined."""

    cache: Path
    parts: tuple[Path, ...]
    stage: ClassVar[Stage] = "merge"

    @property
    def path(self) -> Path:
        """The cache."""
        return self.cache

    @property
    def needs(self) -> tuple[str, ...]:
        """The parts."""
        return tuple(part.name for part in self.parts)

    def done(self) -> bool:
        """Whether the cache is there."""
        return self.cache.exists()

    def run(self, share: Share, report: Reporter) -> None:  # noqa: ARG002  # as every job
        """Join them, unless the whole was there already, in which case parts aren't written."""
        from frostline.features.cache import merge_parts

        if any(part.exists() for part in self.parts):
            # A cache that is there already is of fewer images, and the parts hold its rows, too.
            merge_parts(self.parts, self.cache, overwrite=True, delete_parts=True)


@dataclass(frozen=True)
class HeadTraining:
    """A head on cached features, judged on test where that is wanted."""

    path: Path
    data: Data
    caches: tuple[Path, ...]
    head: str
    params: Mapping[str, Any]
    layer: str
    search: Mapping[str, Any] | None
    cv: int | None
    project: str | None
    seed: int
    device: str
    evaluate: bool
    stage: ClassVar[Stage] = "train-head"

    @property
    def needs(self) -> tuple[str, ...]:
        """Its caches."""
        return tuple(cache.name for cache in self.caches)

    def done(self) -> bool:
        """Whether the run is there, and judged."""
        return _complete(self.path, evaluate=self.evaluate)

    def run(self, share: Share, report: Reporter) -> float | None:
        """Train and judge it, as far as that isn't done."""
        from frostline.classifiers.fitting.search import SearchPlan
        from frostline.pipeline.training.train_head import train_head

        if not self.path.exists():
            train_head(
                self.caches,
                self.head,
                params=self.params,
                layer=self.layer,
                run=self.path,
                seed=self.seed,
                device=self.device,
                fractions=self.data.fractions,
                search=SearchPlan(**self.search) if self.search else None,
                cv=self.cv,
                project=self.project,
                memory=share.memory,
                report=report,
            )
        return _judged(self.path, evaluate=self.evaluate, report=report)


@dataclass(frozen=True)
class Training:
    """What networks trained by different recipes have in common."""

    data: Data
    backbone: Backbone
    from_scratch: bool
    cached: bool | None
    caches: Path
    device: str

    def by(self, recipe: Recipe, run: Path, share: Share, report: Reporter) -> None:
        """Train by a recipe, from where an earlier call was interrupted."""
        from frostline.pipeline.tuning.finetune import finetune

        self.caches.mkdir(parents=True, exist_ok=True)
        finetune(
            self.data.path,
            **dataclasses.asdict(self.backbone),
            from_scratch=self.from_scratch,
            cached=self.cached,
            recipe=recipe,
            run=run,
            caches=self.caches,
            device=self.device,
            workers=share.cores if share.forks else 0,
            fractions=self.data.fractions,
            limit=self.data.limit,
            report=report,
        )


@dataclass(frozen=True)
class Candidate:
    """A short training, for the sake of its recipe."""

    path: Path
    training: Training
    recipe: Recipe
    needs: tuple[str, ...] = ()
    stage: ClassVar[Stage] = "search"

    def done(self) -> bool:
        """Whether the run is there."""
        return self.path.exists()

    def run(self, share: Share, report: Reporter) -> float | None:
        """Train it, from where an earlier call was interrupted."""
        self.training.by(self.recipe, self.path, share, report)
        return _judged(self.path, evaluate=False, report=report)


@dataclass(frozen=True)
class FineTuning:
    """A network trained by a recipe, which the best of some candidates complete.

    Attributes:
        recipe: What isn't searched for.
        candidates: What each candidate, by its run, changes in the recipe.
    """

    path: Path
    training: Training
    recipe: Recipe
    evaluate: bool
    candidates: tuple[tuple[Path, Mapping[str, Any]], ...] = ()
    stage: ClassVar[Stage] = "finetune"

    @property
    def needs(self) -> tuple[str, ...]:
        """The candidates; of these, one is enough."""
        return tuple(path.name for path, _ in self.candidates)

    def done(self) -> bool:
        """Whether the run is there, and judged."""
        return _complete(self.path, evaluate=self.evaluate)

    def run(self, share: Share, report: Reporter) -> float | None:
        """Choose the recipe, train by it and judge the run, as far as that isn't done."""
        if not self.path.exists():
            self.training.by(self._chosen(), self.path, share, report)
        return _judged(self.path, evaluate=self.evaluate, report=report)

    def _chosen(self) -> Recipe:
        """The recipe with what did best on validation; of equals, what comes first."""
        scores = [(_validation(path), changes) for path, changes in self.candidates if path.exists()]
        if not scores:
            return self.recipe
        order = [
            (scored.accuracy, -scored.log_loss)
            for scored, _ in scores
            if scored.accuracy is not None and scored.log_loss is not None
        ]
        if len(order) < len(scores):
            raise StudyError(
                f"{self.training.data.path} has no validation images to choose a recipe by; remove search from [[finetune]]"
            )
        return dataclasses.replace(self.recipe, **scores[order.index(max(order))][1])


def _complete(run: Path, *, evaluate: bool) -> bool:
    return (run / EVALUATION_FILE if evaluate else run).exists()


def _judged(run: Path, *, evaluate: bool, report: Reporter) -> float | None:
    """Look at the test split with a run, where that is wanted and wasn't done; give its accuracy on validation."""
    if evaluate and not (run / EVALUATION_FILE).exists():
        from frostline.pipeline.judging.evaluate import evaluate as judge

        judge(run, report=report)
    return _validation(run).accuracy


def _validation(run: Path) -> "Scores":
    from frostline.pipeline.runs.run import load_run

    return load_run(run).record.metrics.validation


def missing(jobs: Sequence[Job]) -> tuple[Job, ...]:
    """Those that there is something to do for: what isn't done, and what they read."""
    wanted: dict[str, Job] = {}
    for job in reversed(jobs):  # readers come after what they read
        read = any(job.path.name in other.needs for other in wanted.values())
        if _wanted(job, read=read):
            wanted[job.path.name] = job
    return tuple(reversed(wanted.values()))


def reads_lost(job: Job, failed: set[str]) -> str:
    """Why a job can't be done after others have failed; empty where it can."""
    lost = [name for name in job.needs if name in failed]
    spared = isinstance(job, FineTuning) and len(lost) < len(job.needs)  # one candidate is enough
    return "" if spared or not lost else f"needs {', '.join(lost)}, which failed"


def _wanted(job: Job, *, read: bool) -> bool:
    if isinstance(job, Candidate):
        return read and not job.done()
    if isinstance(job, Extraction) and (read or job.part):
        return read  # one that is there is looked over: images may have come
    return not job.done()
