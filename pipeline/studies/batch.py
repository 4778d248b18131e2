"""The batch stage: every combination that a study file asks for, each cache once, and only what isn't there yet."""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from frostline.features.system.locks import FileLock, LockHeldError
from frostline.pipeline.errors import StudyError
from frostline.pipeline.progress import SILENT, Reporter
from frostline.pipeline.studies.jobs.kinds import STAGES, Job, Share, Stage, missing, reads_lost
from frostline.pipeline.studies.jobs.plan import Plan, plan_study
from frostline.pipeline.studies.jobs.run import Outcome, perform_all, shares, write_error
from frostline.pipeline.studies.jobs.study_file import read_study

if TYPE_CHECKING:
    from frostline.pipeline.studies.jobs.estimates import Estimate

State = Literal["there", "done", "failed", "left"]


@dataclass(frozen=True)
class BatchJob:
    """What became of a job.

    Attributes:
        name: Of what it writes.
        stage: Which command does it.
        path: What it writes.
        state: ``there``: from before; ``done`` now; ``failed``; ``left``, because what it reads failed.
        seconds: Wall time now.
        accuracy: On validation, if it has one and was done now.
        error: Why it failed or was left.
    """

    name: str
    stage: Stage
    path: Path
    state: State
    seconds: float | None = None
    accuracy: float | None = None
    error: str = ""


@dataclass(frozen=True)
class BatchResult:
    """What a batch gave.

    Attributes:
        out: The folder of everything.
        jobs: All jobs, in the order in which they are run.
        errors: Folder of what went wrong.
        seconds: Wall time.
    """

    out: Path
    jobs: tuple[BatchJob, ...]
    errors: Path
    seconds: float

    @property
    def runs(self) -> tuple[Path, ...]:
        """The runs that are there."""
        return tuple(
            job.path
            for job in self.jobs
            if job.stage in {"train-head", "finetune"} and job.state in {"there", "done"}
        )

    @property
    def unfinished(self) -> tuple[BatchJob, ...]:
        """What is still to do. A candidate that failed isn't, once another one was chosen."""
        failed = tuple(job for job in self.jobs if job.state in {"failed", "left"})
        return failed if any(job.stage != "search" for job in failed) else ()


def batch(
    file: str | Path, *, jobs: int = 1, cluster: str | None = None, report: Reporter = SILENT
) -> BatchResult:
    """Do every job of a study that isn't done yet: data sets x backbones x layers x heads x seeds, and networks to train.

    What each job writes has a name of its own that says what it depends on, and is complete where it is there. So the same
    call does only what is missing, and goes on where it was killed. A job that fails stops only those that read what it
    should have written.

    Args:
        file: The study file; see `pipeline.studies.jobs.study_file`. Paths in it are relative to the current folder.
        jobs: Processes on this machine, which share its cores and its memory.
        cluster: Run on a Dask cluster instead; see `pipeline.hosts.dask_cluster.connected`. A cache that isn't there is then computed in
            parts, one a worker.
        report: Where progress goes.

    Raises:
        StudyError: The file asks for what there isn't; names the line, before anything is computed.
        ClusterError: The cluster can't be reached.
    """
    started = time.perf_counter()
    if jobs < 1:
        raise StudyError(f"jobs: got {jobs}, expected at least 1")
    if cluster is not None and jobs != 1:
        raise StudyError(f"jobs: got {jobs}, expected 1 with a cluster, whose workers set the number of jobs")
    study = read_study(file)
    with _connected(cluster) as workers:
        plan = plan_study(study, parts=workers or 1)
        todo = missing(plan.jobs)
        outcomes: dict[str, Outcome] = {}
        left: dict[str, str] = {}
        if todo:
            share = Share(forks=False) if cluster else shares(jobs)
            with _locked(study.out):
                _Batch(plan, todo, None if cluster else jobs, share, outcomes, left, report).run()
    results = tuple(_result(job, outcomes, left) for job in sorted(plan.jobs, key=_stage))
    return BatchResult(study.out, results, _errors(study.out), time.perf_counter() - started)


def _stage(job: Job) -> int:
    return STAGES.index(job.stage)


def _errors(out: Path) -> Path:
    return out / "errors"


@dataclass(frozen=True)
class PlannedJob:
    """A job before it is done.

    Attributes:
        name: Of what it writes.
        stage: Which command does it.
        path: What it writes.
        there: Whether that is there.
        estimate: What it will take; none for what is there.
    """

    name: str
    stage: Stage
    path: Path
    there: bool
    estimate: "Estimate | None" = None


@dataclass(frozen=True)
class BatchPlan:
    """What a batch would do.

    Attributes:
        out: The folder of everything.
        jobs: All jobs, in the order in which they would run.
        processes: That share the work.
    """

    out: Path
    jobs: tuple[PlannedJob, ...]
    processes: int

    @property
    def estimates(self) -> "tuple[Estimate, ...]":
        """Of what is to do."""
        return tuple(job.estimate for job in self.jobs if job.estimate)

    @property
    def seconds(self) -> float:
        """Wall time of all, one after the other; several processes share it as well as the machine lets them."""
        return sum(each.seconds for each in self.estimates)

    @property
    def memory(self) -> int:
        """Bytes that the largest jobs take together."""
        largest = sorted((each.memory for each in self.estimates), reverse=True)
        return sum(largest[: self.processes])

    @property
    def disk(self) -> int:
        """Bytes that will be written."""
        return sum(each.disk for each in self.estimates)


def plan_batch(file: str | Path, *, jobs: int = 1, report: Reporter = SILENT) -> BatchPlan:
    """What `batch` would do, and about how long it would take; networks and heads are tried on a few images and rows.

    Raises:
        StudyError: The file asks for what there isn't; names the line.
    """
    study = read_study(file)
    plan = plan_study(study)
    todo = missing(plan.jobs)
    found: dict[str, Estimate] = {}
    if todo:
        from frostline.pipeline.studies.jobs.checks import cheap_first, check_jobs
        from frostline.pipeline.studies.jobs.estimates import Estimator

        known = check_jobs(plan, todo, report)
        todo = tuple(cheap_first(todo, known))
        estimator = Estimator(known)
        with report.task("Calibrating", len(todo)) as advance:
            for job in todo:
                found[job.path.name] = estimator.estimate(job)
                advance(1)
    there = [job for job in plan.jobs if job.path.name not in found]
    planned = (
        PlannedJob(job.path.name, job.stage, job.path, job.done(), found.get(job.path.name))
        for job in sorted([*there, *todo], key=_stage)
    )
    return BatchPlan(study.out, tuple(planned), jobs)


@contextlib.contextmanager
def _connected(cluster: str | None) -> Iterator[int | None]:
    """The number of workers of a cluster; None without one."""
    if cluster is None:
        yield None
        return
    from frostline.pipeline.hosts.dask_cluster import connected

    with connected(cluster) as workers:
        yield workers


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Let no other batch write the same study; the lock goes with the process, however that ends."""
    out.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock.acquire(out / ".lock")
    except LockHeldError:
        raise StudyError(
            f"{out}: another batch is writing to this folder; wait for it, or set another folder: out = ... in [batch]"
        ) from None
    try:
        yield
    finally:
        lock.release()


@dataclass
class _Batch:
    """Jobs under way."""

    plan: Plan
    todo: Sequence[Job]
    workers: int | None
    share: Share
    outcomes: dict[str, Outcome]
    left: dict[str, str]
    report: Reporter

    def run(self) -> None:
        """Do all jobs, stage by stage; everything that one reads belongs to an earlier stage."""
        from frostline.pipeline.studies.jobs.checks import cheap_first, check_jobs

        known = check_jobs(self.plan, self.todo, self.report)
        there = len(self.plan.jobs) - len(self.todo)
        self.report.note(f"{self.plan.study.out}: {len(self.todo)} jobs to do, {there} done already")
        ordered = cheap_first(self.todo, known)
        for stage in STAGES:
            wave = self._ready([job for job in ordered if job.stage == stage])
            if wave:
                self._wave(stage, wave)

    def _ready(self, jobs: Sequence[Job]) -> list[Job]:
        """Those whose needs are met; the others are left."""
        failed = {name for name, outcome in self.outcomes.items() if outcome.error} | set(self.left)
        ready = []
        for job in jobs:
            reason = reads_lost(job, failed)
            if reason:
                self.left[job.path.name] = reason
                self._count(f"left: {job.path.name}: {reason}")
            else:
                ready.append(job)
        return ready

    def _wave(self, stage: Stage, wave: Sequence[Job]) -> None:
        # In this process the jobs show their own progress, and two bars at once would not.
        shown = SILENT if self.workers == 1 else self.report
        inner = self.report if self.workers == 1 else SILENT
        with shown.task(f"{stage} ", len(wave)) as advance:
            for outcome in perform_all(wave, self.workers, self.share, inner):
                self.outcomes[outcome.job] = outcome
                self._tell(stage, outcome)
                advance(1)

    def _tell(self, stage: Stage, outcome: Outcome) -> None:
        for warning in outcome.warnings:
            self.report.warn(f"{outcome.job}: {warning}")
        errors = _errors(self.plan.study.out)
        if outcome.error:
            write_error(errors, outcome)
            self._count(f"{stage} failed: {outcome.job}")
            self.report.warn(outcome.error)
            return
        (errors / f"{outcome.job}.txt").unlink(missing_ok=True)
        accuracy = "" if outcome.accuracy is None else f", validation {outcome.accuracy:.2%}"
        self._count(f"{stage}: {outcome.job} in {outcome.seconds:.1f} s{accuracy}")

    def _count(self, message: str) -> None:
        self.report.note(f"[{len(self.outcomes) + len(self.left)}/{len(self.todo)}] {message}")


def _result(job: Job, outcomes: Mapping[str, Outcome], left: Mapping[str, str]) -> BatchJob:
    name = job.path.name
    if name in outcomes:
        outcome = outcomes[name]
        state: State = "failed" if outcome.error else "done"
        return BatchJob(name, job.stage, job.path, state, outcome.seconds, outcome.accuracy, outcome.error)
    if name in left:
        return BatchJob(name, job.stage, job.path, "left", error=left[name])
    return BatchJob(name, job.stage, job.path, "there")
