"""Kinds of jobs of a study. Each job writes one output under a unique name and is done if that output can be read."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from frostline.features.errors import FeaturesError
from frostline.pipeline.errors import RunError, StudyError
from frostline.pipeline.options.extraction import ExtractOptions
from frostline.pipeline.options.learning.heads import TrainHeadOptions
from frostline.pipeline.options.learning.recipe import Recipe
from frostline.pipeline.options.learning.tuning import FinetuneOptions
from frostline.pipeline.progress import Reporter

if TYPE_CHECKING:
    from frostline.pipeline.runs.record import Scores

Stage = Literal["extract", "merge", "train-head", "search", "finetune"]
STAGES: tuple[Stage, ...] = ("extract", "merge", "train-head", "search", "finetune")
"""Stages in order of execution, the cheap ones first."""


@dataclass(frozen=True)
class Share:
    """Share of the machine that a job may use.

    Attributes:
        cores: Number of threads; None for no limit.
        memory: Memory limit of the features in bytes; None for the default of `train_head`.
        forks: Whether the job may start processes; workers of joblib and of a cluster can't.
    """

    cores: int | None = None
    memory: int | None = None
    forks: bool = True


@dataclass(frozen=True)
class Data:
    """A data set.

    Attributes:
        path: Absolute path of the folder or manifest, or its URL without secrets.
        images: Number of images.
        classes: Number of classes.
        digest: Digest of the listing: names, labels, splits, groups and sizes.
        columns: Digest of the side columns.
        opened: Path or URL that opens it.
    """

    path: str
    images: int
    classes: int
    digest: str
    columns: str
    opened: str = field(repr=False)


class Job(Protocol):
    """A job of a study."""

    @property
    def stage(self) -> Stage:
        """Command that runs the job."""

    @property
    def path(self) -> Path:
        """Path of the output; its name is the name of the job."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the jobs whose outputs the job reads."""

    def done(self) -> bool:
        """Return whether the output is complete: it exists and can be read."""

    def run(self, share: Share, report: Reporter) -> float | None:
        """Run or resume the job; return its validation accuracy, if any."""


@dataclass(frozen=True)
class Extraction:
    """Extraction of a cache, or of a part of one."""

    data: Data
    options: ExtractOptions
    cache: Path
    needs: tuple[str, ...] = ()
    stage: ClassVar[Stage] = "extract"

    @property
    def path(self) -> Path:
        """Path of the cache or its part."""
        part = self.options.part
        return part.path(self.cache) if part else self.cache

    def done(self) -> bool:
        """Return whether the file is a finished cache."""
        return _is_cache(self.path)

    def run(self, share: Share, report: Reporter) -> None:
        """Compute the missing features."""
        from frostline.pipeline.extraction.extract import extract

        self.cache.parent.mkdir(parents=True, exist_ok=True)
        options = dataclasses.replace(self.options, cache=self.cache, workers=share.cores, report=report)
        extract(self.data.opened, **vars(options))


@dataclass(frozen=True)
class Merge:
    """Merge of the parts of a cache."""

    cache: Path
    parts: tuple[Path, ...]
    stage: ClassVar[Stage] = "merge"

    @property
    def path(self) -> Path:
        """Path of the cache."""
        return self.cache

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the parts."""
        return tuple(part.name for part in self.parts)

    def done(self) -> bool:
        """Return whether the file is a finished cache."""
        return _is_cache(self.cache)

    def run(self, share: Share, report: Reporter) -> None:  # noqa: ARG002  # signature of `Job`
        """Merge the parts, unless the whole existed already, in which case no parts are written."""
        from frostline.features.cache import merge_parts

        if any(part.exists() for part in self.parts):
            # An existing cache holds fewer images, and the parts hold its rows as well.
            merge_parts(self.parts, self.cache, overwrite=True, delete_parts=True)


@dataclass(frozen=True)
class HeadTraining:
    """Training of a head on cached features, and evaluation on test if requested."""

    path: Path
    data: Data
    caches: tuple[Path, ...]
    options: TrainHeadOptions
    evaluate: bool
    stage: ClassVar[Stage] = "train-head"

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the caches."""
        return tuple(cache.name for cache in self.caches)

    def done(self) -> bool:
        """Return whether the run exists and, if requested, was evaluated."""
        return _complete(self.path, evaluate=self.evaluate)

    def run(self, share: Share, report: Reporter) -> float | None:
        """Train the head and evaluate the run, unless already done."""
        from frostline.pipeline.training.train_head import train_head

        if not self.path.exists():
            options = dataclasses.replace(self.options, run=self.path, memory=share.memory, report=report)
            train_head(self.caches, **vars(options))
        return _judged(self.path, evaluate=self.evaluate, report=report)


@dataclass(frozen=True)
class Candidate:
    """Short training of a candidate recipe."""

    path: Path
    data: Data
    options: FinetuneOptions
    needs: tuple[str, ...] = ()
    stage: ClassVar[Stage] = "search"

    def done(self) -> bool:
        """Return whether the run exists."""
        return _is_run(self.path)

    def run(self, share: Share, report: Reporter) -> float | None:
        """Train the candidate, resuming an interrupted training."""
        _finetune(self, self.options, share, report)
        return _judged(self.path, evaluate=False, report=report)


@dataclass(frozen=True)
class FineTuning:
    """Training of a network with a recipe, completed by the best of several candidates.

    Attributes:
        options: Options of the training, with the fixed settings of the recipe.
        candidates: Run of each candidate, and the settings in which it differs from the recipe.
    """

    path: Path
    data: Data
    options: FinetuneOptions
    evaluate: bool
    candidates: tuple[tuple[Path, Mapping[str, Any]], ...] = ()
    stage: ClassVar[Stage] = "finetune"

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the candidates, of which one is sufficient."""
        return tuple(path.name for path, _ in self.candidates)

    def done(self) -> bool:
        """Return whether the run exists and, if requested, was evaluated."""
        return _complete(self.path, evaluate=self.evaluate)

    def run(self, share: Share, report: Reporter) -> float | None:
        """Select the recipe, train with it and evaluate the run, unless already done."""
        if not self.path.exists():
            options = dataclasses.replace(self.options, recipe=self._chosen())
            _finetune(self, options, share, report)
        return _judged(self.path, evaluate=self.evaluate, report=report)

    def _chosen(self) -> Recipe:
        """Return the recipe with the settings that are best on validation; the first of equally good ones."""
        recipe = self.options.recipe
        scores = [(_validation(path), changes) for path, changes in self.candidates if path.exists()]
        if not scores:
            return recipe
        order = [
            (scored.accuracy, -scored.log_loss)
            for scored, _ in scores
            if scored.accuracy is not None and scored.log_loss is not None
        ]
        if len(order) < len(scores):
            raise StudyError(
                f"{self.data.path} has no validation images to choose a recipe by; remove search from [[finetune]]"
            )
        return dataclasses.replace(recipe, **scores[order.index(max(order))][1])


def _finetune(job: Candidate | FineTuning, options: FinetuneOptions, share: Share, report: Reporter) -> None:
    """Train the network of a job, resuming an interrupted training."""
    from frostline.pipeline.tuning.finetune import finetune

    Path(options.caches).mkdir(parents=True, exist_ok=True)
    workers = share.cores if share.forks else 0
    finetune(
        job.data.opened, **vars(dataclasses.replace(options, run=job.path, workers=workers, report=report))
    )


def _is_cache(path: Path) -> bool:
    """Return whether a file is a finished cache, by its header."""
    from frostline.features.cache import FeatureCache

    with contextlib.suppress(FeaturesError, OSError):
        FeatureCache.open(path).close()
        return True
    return False


def _is_run(path: Path) -> bool:
    from frostline.pipeline.runs.record import read_record

    with contextlib.suppress(RunError):
        read_record(path)
        return True
    return False


def _is_evaluated(run: Path) -> bool:
    from frostline.pipeline.runs.evaluation import read_evaluation
    from frostline.pipeline.runs.predictions import TEST_FILE

    with contextlib.suppress(RunError):
        return read_evaluation(run) is not None and (run / TEST_FILE).is_file()
    return False


def _complete(run: Path, *, evaluate: bool) -> bool:
    return _is_run(run) and (_is_evaluated(run) or not evaluate)


def _judged(run: Path, *, evaluate: bool, report: Reporter) -> float | None:
    """Evaluate a run on test if requested and not done yet; return its validation accuracy."""
    if evaluate and not _is_evaluated(run):
        from frostline.pipeline.judging.evaluate import evaluate as judge

        judge(run, report=report)
    return _validation(run).accuracy


def draw_missing_pictures(jobs: Iterable[Job], report: Reporter) -> None:
    """Draw the pictures of evaluations that were interrupted after their numbers were complete."""
    for job in jobs:
        if isinstance(job, HeadTraining | FineTuning) and job.evaluate and job.done():
            from frostline.pipeline.drawing.attempts import attempted

            attempted(f"pictures of {job.path}", functools.partial(_draw_missing, job.path, report), report)


def _draw_missing(run: Path, report: Reporter) -> None:
    from frostline.pipeline.runs.evaluation import lacks_pictures

    if lacks_pictures(run):
        from frostline.pipeline.judging.pictures import draw_evaluation

        draw_evaluation(run, report)


def _validation(run: Path) -> "Scores":
    from frostline.pipeline.runs.run import load_run

    return load_run(run).record.metrics.validation


def missing(jobs: Sequence[Job]) -> tuple[Job, ...]:
    """Return the jobs to run: those that are not done, and the jobs that they read."""
    wanted: dict[str, Job] = {}
    for job in reversed(jobs):  # jobs come after their inputs
        read = any(job.path.name in other.needs for other in wanted.values())
        if _is_needed(job, read=read):
            wanted[job.path.name] = job
    return tuple(reversed(wanted.values()))


def reads_lost(job: Job, failed: set[str]) -> str:
    """Return the reason why a job can't run after others have failed; empty if it can."""
    lost = [name for name in job.needs if name in failed]
    spared = isinstance(job, FineTuning) and len(lost) < len(job.needs)  # one candidate is enough
    return "" if spared or not lost else f"needs {', '.join(lost)}, which failed"


def _is_needed(job: Job, *, read: bool) -> bool:
    if isinstance(job, Candidate):
        return read and not job.done()
    if isinstance(job, Extraction) and (read or job.options.part):
        return read  # existing caches are checked for new images
    return not job.done()
