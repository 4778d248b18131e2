"""The batch stage: run all combinations of a study file, each cache once, and only the missing jobs."""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from frostline.pipeline.errors import StudyError
from frostline.pipeline.options.stage import stage
from frostline.pipeline.options.studies import BatchOptions, PlanOptions
from frostline.pipeline.progress import SILENT, Reporter
from frostline.pipeline.runs.directory import sweep_runs
from frostline.pipeline.studies.jobs.kinds import (
    STAGES,
    Job,
    Share,
    Stage,
    draw_missing_pictures,
    missing,
    reads_lost,
)
from frostline.pipeline.studies.jobs.plan import Plan, plan_study
from frostline.pipeline.studies.jobs.run import Outcome, perform_all, shares, write_error
from frostline.pipeline.studies.jobs.study_file import read_study
from frostline.system.atomic import delete_unused, sweep_folder
from frostline.system.locks import FileLock, LockHeldError

if TYPE_CHECKING:
    from frostline.pipeline.studies.jobs.estimates import Estimate

State = Literal["exists", "done", "failed", "skipped"]


@dataclass(frozen=True)
class BatchJob:
    """Outcome of a job.

    Attributes:
        name: Name of the output.
        stage: Command that runs the job.
        path: Path of the output.
        state: ``exists``: completed before this call; ``done``: completed by this call; ``failed``; ``skipped``:
            not run because one of its inputs failed.
        seconds: Wall time in this call.
        accuracy: Validation accuracy of a job completed by this call; None without one.
        error: Reason why the job failed or was skipped.
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
    """Result of a batch.

    Attributes:
        out: Output folder.
        jobs: All jobs, in order of execution.
        errors: Folder with the error messages of failed jobs.
        seconds: Wall time.
    """

    out: Path
    jobs: tuple[BatchJob, ...]
    errors: Path
    seconds: float

    @property
    def runs(self) -> tuple[Path, ...]:
        """Existing run directories."""
        return tuple(
            job.path
            for job in self.jobs
            if job.stage in {"train-head", "finetune"} and job.state in {"exists", "done"}
        )

    @property
    def unfinished(self) -> tuple[BatchJob, ...]:
        """Failed and skipped jobs; empty if only search candidates failed, because one successful candidate is enough."""
        failed = tuple(job for job in self.jobs if job.state in {"failed", "skipped"})
        return failed if any(job.stage != "search" for job in failed) else ()


@stage(BatchOptions)
def batch(file: str | Path, options: BatchOptions) -> BatchResult:
    """Run every unfinished job of a study: data sets x backbones x layers x heads x seeds, and networks to train.

    The name of each output depends on all of its settings, and an output that exists and can be read is complete. The
    same call therefore runs only missing jobs and resumes an interrupted batch. A failed job skips only the jobs that read
    its output.

    Args:
        file: Study file; see `frostline.pipeline.studies.jobs.study_file`. Paths in it are relative to the current folder.
        options: Options of the stage.

    Raises:
        StudyError: The file names something that does not exist. The message gives the line; nothing was computed.
        ClusterError: The cluster can't be reached.
    """
    started = time.perf_counter()
    jobs, cluster = options.jobs, options.cluster
    study = read_study(file)
    with _connected(cluster) as workers:
        plan = plan_study(study, parts=workers or 1, trusted=options.trusted)
        _sweep(plan)
        todo = missing(plan.jobs)
        existing = [job for job in plan.jobs if job not in todo]
        _forget_errors(study.out, [job.path.name for job in existing])
        draw_missing_pictures(existing, options.report)
        outcomes: dict[str, Outcome] = {}
        skipped: dict[str, str] = {}
        if todo:
            share = Share(forks=False) if cluster else shares(jobs)
            with _locked(study.out):
                todo = missing(plan.jobs)  # another batch may have completed some before the lock was free
                _Batch(plan, todo, None if cluster else jobs, share, outcomes, skipped, options.report).run()
    results = tuple(_result(job, outcomes, skipped) for job in sorted(plan.jobs, key=_stage))
    return BatchResult(study.out, results, _errors(study.out), time.perf_counter() - started)


def _sweep(plan: Plan) -> None:
    """Delete what killed processes left and no job needs."""
    sweep_runs(job.path for job in plan.jobs)
    sweep_folder(_errors(plan.study.out))
    delete_unused(_lock_path(plan.study.out))


def _stage(job: Job) -> int:
    return STAGES.index(job.stage)


def _errors(out: Path) -> Path:
    return out / "errors"


def _forget_errors(out: Path, jobs: Sequence[str]) -> None:
    """Delete the error messages of jobs that are complete, and the folder if no message is left."""
    folder = _errors(out)
    if folder.is_dir():
        for name in jobs:
            (folder / f"{name}.txt").unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()


@dataclass(frozen=True)
class PlannedJob:
    """A job of a dry run.

    Attributes:
        name: Name of the output.
        stage: Command that runs the job.
        path: Path of the output.
        exists: Whether the output exists.
        estimate: Estimated costs; None if the output exists.
    """

    name: str
    stage: Stage
    path: Path
    exists: bool
    estimate: "Estimate | None" = None


@dataclass(frozen=True)
class BatchPlan:
    """Jobs and estimated costs of a batch.

    Attributes:
        out: Output folder.
        jobs: All jobs, in order of execution.
        processes: Number of processes.
    """

    out: Path
    jobs: tuple[PlannedJob, ...]
    processes: int

    @property
    def estimates(self) -> "tuple[Estimate, ...]":
        """Estimates of the jobs to run."""
        return tuple(job.estimate for job in self.jobs if job.estimate)

    @property
    def seconds(self) -> float:
        """Wall time of all jobs in seconds, run one after the other."""
        return sum(each.seconds for each in self.estimates)

    @property
    def memory(self) -> int:
        """Memory in bytes of the largest jobs that may run at the same time."""
        largest = sorted((each.memory for each in self.estimates), reverse=True)
        return sum(largest[: self.processes])

    @property
    def disk(self) -> int:
        """Disk space in bytes of all outputs."""
        return sum(each.disk for each in self.estimates)


@stage(PlanOptions)
def plan_batch(file: str | Path, options: PlanOptions) -> BatchPlan:
    """List the jobs of `batch` and estimate their costs, by timing networks and heads on a few images and rows.

    Args:
        file: Study file.
        options: Options of the stage.

    Raises:
        StudyError: The file names something that does not exist; the message gives the line.
    """
    study = read_study(file)
    plan = plan_study(study, trusted=options.trusted)
    todo = missing(plan.jobs)
    found: dict[str, Estimate] = {}
    if todo:
        from frostline.pipeline.studies.jobs.checks import cheap_first, check_jobs
        from frostline.pipeline.studies.jobs.estimates import Estimator

        known = check_jobs(plan, todo, options.report)
        todo = tuple(cheap_first(todo, known))
        estimator = Estimator(known)
        with options.report.task("Calibrating", len(todo)) as advance:
            for job in todo:
                found[job.path.name] = estimator.estimate(job)
                advance(1)
    existing = [job for job in plan.jobs if job.path.name not in found]
    planned = (
        PlannedJob(job.path.name, job.stage, job.path, job.done(), found.get(job.path.name))
        for job in sorted([*existing, *todo], key=_stage)
    )
    return BatchPlan(study.out, tuple(planned), options.jobs)


@contextlib.contextmanager
def _connected(cluster: str | None) -> Iterator[int | None]:
    """Connect to a cluster and yield its number of workers; yield None without a cluster."""
    if cluster is None:
        yield None
        return
    from frostline.pipeline.hosts.dask_cluster import connected

    with connected(cluster) as workers:
        yield workers


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Lock the output folder against other batches; the lock is released when the process ends."""
    out.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock.acquire(_lock_path(out))
    except LockHeldError:
        raise StudyError(
            f"{out}: another batch is writing to this folder; wait for it, or set another folder: out = ... in [batch]"
        ) from None
    try:
        yield
    finally:
        lock.release(delete=True)


def _lock_path(out: Path) -> Path:
    return out / ".lock"


@dataclass
class _Batch:
    """Execution of the unfinished jobs."""

    plan: Plan
    todo: Sequence[Job]
    workers: int | None
    share: Share
    outcomes: dict[str, Outcome]
    skipped: dict[str, str]
    report: Reporter

    def run(self) -> None:
        """Run all jobs stage by stage; the inputs of a job come from earlier stages."""
        from frostline.pipeline.studies.jobs.checks import cheap_first, check_jobs

        known = check_jobs(self.plan, self.todo, self.report)
        existing = len(self.plan.jobs) - len(self.todo)
        self.report.note(f"{self.plan.study.out}: {len(self.todo)} jobs to do, {existing} exist already")
        ordered = cheap_first(self.todo, known)
        for name in STAGES:
            wave = self._ready([job for job in ordered if job.stage == name])
            if wave:
                self._run_stage(name, wave)

    def _ready(self, jobs: Sequence[Job]) -> list[Job]:
        """Return the jobs whose inputs exist; mark the others as skipped."""
        failed = {name for name, outcome in self.outcomes.items() if outcome.error} | set(self.skipped)
        ready = []
        for job in jobs:
            reason = reads_lost(job, failed)
            if reason:
                self.skipped[job.path.name] = reason
                self._count(f"skipped: {job.path.name}: {reason}")
            else:
                ready.append(job)
        return ready

    def _run_stage(self, name: Stage, wave: Sequence[Job]) -> None:
        # A single process shows the progress of each job, because two bars can't be shown at once.
        shown = SILENT if self.workers == 1 else self.report
        inner = self.report if self.workers == 1 else SILENT
        with shown.task(f"{name} ", len(wave)) as advance:
            for outcome in perform_all(wave, self.workers, self.share, inner):
                self.outcomes[outcome.job] = outcome
                self._report(name, outcome)
                advance(1)

    def _report(self, stage: Stage, outcome: Outcome) -> None:
        for warning in outcome.warnings:
            self.report.warn(f"{outcome.job}: {warning}")
        errors = _errors(self.plan.study.out)
        if outcome.error:
            write_error(errors, outcome)
            self._count(f"{stage} failed: {outcome.job}")
            self.report.warn(outcome.error)
            return
        _forget_errors(self.plan.study.out, [outcome.job])
        accuracy = "" if outcome.accuracy is None else f", validation {outcome.accuracy:.2%}"
        self._count(f"{stage}: {outcome.job} in {outcome.seconds:.1f} s{accuracy}")

    def _count(self, message: str) -> None:
        self.report.note(f"[{len(self.outcomes) + len(self.skipped)}/{len(self.todo)}] {message}")


def _result(job: Job, outcomes: Mapping[str, Outcome], skipped: Mapping[str, str]) -> BatchJob:
    name = job.path.name
    if name in outcomes:
        outcome = outcomes[name]
        state: State = "failed" if outcome.error else "done"
        return BatchJob(name, job.stage, job.path, state, outcome.seconds, outcome.accuracy, outcome.error)
    if name in skipped:
        return BatchJob(name, job.stage, job.path, "skipped", error=skipped[name])
    return BatchJob(name, job.stage, job.path, "exists")
