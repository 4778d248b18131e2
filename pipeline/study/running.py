"""Jobs on joblib: in this process, in several, or on the workers of a Dask cluster; a failure stops only what reads it."""

import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
from joblib.externals.loky.process_executor import TerminatedWorkerError

from features.errors import CacheBusyError
from pipeline.memory import half_of_memory
from pipeline.reporting import SILENT, Advance, Reporter
from pipeline.study.jobs import Job, Share

__all__ = ["Outcome", "perform_all", "shares", "write_error"]

_WAIT = 1.0  # seconds between looks at a cache that another process writes


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Attributes:
        job: Its name.
        seconds: Wall time.
        accuracy: On validation, if it has one.
        error: Why it failed, in words; empty where it did not.
        details: The same with where in the code.
        warnings: What a user should know.
    """

    job: str
    seconds: float
    accuracy: float | None = None
    error: str = ""
    details: str = ""
    warnings: tuple[str, ...] = ()


def shares(jobs: int) -> Share:
    """What each of so many processes may use of this machine."""
    from features.loading import default_workers

    memory = half_of_memory()
    return Share(
        max(1, default_workers() // jobs), None if memory is None else memory // jobs, forks=jobs == 1
    )


def perform_all(
    jobs: Sequence[Job], workers: int | None, share: Share, report: Reporter
) -> Iterator[Outcome]:
    """Do jobs that don't read each other; outcomes come as they are there.

    Args:
        jobs: What to do.
        workers: Processes; 1 is this one; None for what joblib's `parallel_config` says.
        share: What each may use.
        report: Where progress goes, if they run in this process.
    """
    if workers == 1:
        for job in jobs:
            yield perform(job, share, _Inner(report))
        return
    left = {job.path.name: job for job in jobs}
    try:
        for outcome in _in_parallel(jobs, workers, share):
            del left[outcome.job]
            yield outcome
    except (
        TerminatedWorkerError
    ):  # by the system, for its memory, or by a person: nobody says which job it had
        for job in left.values():
            yield _alone(job, share)


def _in_parallel(jobs: Sequence[Job], workers: int | None, share: Share) -> Iterator[Outcome]:
    options: dict[str, Any] = {}
    if workers is not None:
        options = {"backend": "loky", "n_jobs": workers, "inner_max_num_threads": share.cores}
    with joblib.parallel_config(**options):
        calls = (joblib.delayed(perform)(job, share) for job in jobs)
        yield from joblib.Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="all")(calls)


def _alone(job: Job, share: Share) -> Outcome:
    """Do a job in a process of its own, which may end as it likes."""
    started = time.perf_counter()
    try:
        (outcome,) = _in_parallel([job], 2, share)
    except TerminatedWorkerError as error:
        return Outcome(
            job.path.name, time.perf_counter() - started, error="its process was killed", details=str(error)
        )
    else:
        return outcome


def perform(job: Job, share: Share, inner: "_Inner | None" = None) -> Outcome:
    """Do one job; whatever goes wrong with it is told, not raised."""
    reporter = inner or _Inner(SILENT)
    started = time.perf_counter()
    accuracy, error, details = None, "", ""
    try:
        with _limited(share):
            accuracy = _patiently(job, share, reporter)
    except Exception as problem:  # noqa: BLE001  # one job's failure, of any kind, must not end the others
        notes = "".join(f"\n{note}" for note in getattr(problem, "__notes__", ()))
        error = f"{problem}{notes}" or type(problem).__name__
        details = traceback.format_exc()
    seconds = time.perf_counter() - started
    return Outcome(job.path.name, seconds, accuracy, error, details, tuple(reporter.warnings))


def _patiently(job: Job, share: Share, report: Reporter) -> float | None:
    """Wait for a cache that another process is writing: a killed batch's last worker, or a job that shares it."""
    while True:
        try:
            return job.run(share, report)
        except CacheBusyError:
            time.sleep(_WAIT)


@contextmanager
def _limited(share: Share) -> Iterator[None]:
    """Keep torch, and joblib, to a share of the machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(min(before, share.cores or before))
    # Beside other jobs, one has no further processes for a search of its own.
    alone = nullcontext() if share.forks else joblib.parallel_config(backend="sequential")
    try:
        with alone:
            yield
    finally:
        torch.set_num_threads(before)


@dataclass
class _Inner:
    """Lets a job's progress through, and keeps its warnings for later; notes would bury what the batch says."""

    report: Reporter
    warnings: list[str] = field(default_factory=list)

    def note(self, message: str) -> None:
        """Drop it."""

    def warn(self, message: str) -> None:
        """Keep it."""
        self.warnings.append(message)

    @contextmanager
    def task(self, description: str, total: int | None) -> Iterator[Advance]:
        """Show it."""
        with self.report.task(description, total) as advance:
            yield advance


def write_error(folder: Path, outcome: Outcome) -> Path:
    """Keep what went wrong, with where in the code."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{outcome.job}.txt"
    path.write_text(f"{outcome.error}\n\n{outcome.details}", encoding="utf-8")
    return path
