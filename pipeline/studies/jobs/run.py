"""Execution of jobs with joblib: in this process, in several processes, or on a Dask cluster."""

import multiprocessing
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import joblib
from threadpoolctl import threadpool_limits

from frostline.features.errors import CacheBusyError
from frostline.interrupts import children_ignore_interrupts, end_with_parent
from frostline.pipeline.hosts.memory import half_of_memory
from frostline.pipeline.progress import SILENT, Advance, Reporter
from frostline.pipeline.studies.jobs.kinds import Job, Share
from frostline.system.atomic import replace_file

_KILLED = "its process was killed, most likely because the memory ran out; run the same command again, with a lower --jobs"
_WAIT = 1.0  # seconds between attempts to open a cache that another process writes


@dataclass(frozen=True)
class Outcome:
    """Outcome of a job.

    Attributes:
        job: Name of the job.
        seconds: Wall time.
        accuracy: Validation accuracy, if any.
        error: Error message; empty if the job succeeded.
        details: Traceback of the error.
        warnings: Warnings of the job.
    """

    job: str
    seconds: float
    accuracy: float | None = None
    error: str = ""
    details: str = ""
    warnings: tuple[str, ...] = ()


def shares(jobs: int) -> Share:
    """Return the share of this machine for each of `jobs` processes."""
    from frostline.features.images.batches import default_workers

    memory = half_of_memory()
    return Share(
        max(1, default_workers() // jobs), None if memory is None else memory // jobs, forks=jobs == 1
    )


def perform_all(
    jobs: Sequence[Job], workers: int | None, share: Share, report: Reporter
) -> Iterator[Outcome]:
    """Run independent jobs and yield their outcomes in order of completion.

    Args:
        jobs: Jobs to run.
        workers: Number of processes; 1 for this process; None for the backend of joblib's `parallel_config`.
        share: Share of the machine for each job.
        report: Receiver of progress if the jobs run in this process.
    """
    if workers == 1:
        for job in jobs:
            yield perform(job, share, _JobReporter(report))
        return
    yield from _on_cluster(jobs, share) if workers is None else _in_processes(jobs, workers, share)


def _on_cluster(jobs: Sequence[Job], share: Share) -> Iterator[Outcome]:
    """Run jobs on the backend of joblib's `parallel_config`."""
    calls = (joblib.delayed(perform)(job, share) for job in jobs)
    yield from joblib.Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="all")(calls)


def _in_processes(jobs: Sequence[Job], workers: int, share: Share) -> Iterator[Outcome]:
    """Run jobs in processes of this machine, one job at a time each, so that a killed process identifies its job."""
    pool = _Processes(share)
    try:
        calls = (joblib.delayed(pool.run)(job) for job in jobs)
        threads = joblib.Parallel(
            n_jobs=workers,
            backend="threading",
            return_as="generator_unordered",
            batch_size=1,
            pre_dispatch="all",
        )
        with children_ignore_interrupts():
            outcomes = threads(calls)
        yield from outcomes
    finally:
        pool.close()


class _Processes:
    """One process per calling thread, reused until it dies."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self._thread = threading.local()
        self._all: list[ProcessPoolExecutor] = []

    def run(self, job: Job) -> Outcome:
        """Run a job in the process of this thread."""
        started = time.perf_counter()
        try:
            return self._process().submit(perform, job, self._share).result()
        except BrokenProcessPool as error:  # killed by the system for its memory, or by the user
            del self._thread.process
            seconds = time.perf_counter() - started
            return Outcome(job.path.name, seconds, error=_KILLED, details=str(error))

    def _process(self) -> ProcessPoolExecutor:
        if not hasattr(self._thread, "process"):
            context = multiprocessing.get_context("spawn")
            self._thread.process = ProcessPoolExecutor(1, mp_context=context, initializer=end_with_parent)
            self._all.append(self._thread.process)
        found: ProcessPoolExecutor = self._thread.process
        return found

    def close(self) -> None:
        """Shut the processes down."""
        for process in self._all:
            process.shutdown(wait=False, cancel_futures=True)


def perform(job: Job, share: Share, inner: "_JobReporter | None" = None) -> Outcome:
    """Run one job; an exception is returned in the outcome, not raised."""
    reporter = inner or _JobReporter(SILENT)
    started = time.perf_counter()
    accuracy, error, details = None, "", ""
    try:
        with _limited(share):
            accuracy = _run_waiting(job, share, reporter)
    except Exception as problem:  # noqa: BLE001  # a failed job must not stop the others
        notes = "".join(f"\n{note}" for note in getattr(problem, "__notes__", ()))
        error = f"{problem}{notes}" or type(problem).__name__
        details = traceback.format_exc()
    seconds = time.perf_counter() - started
    return Outcome(job.path.name, seconds, accuracy, error, details, tuple(reporter.warnings))


def _run_waiting(job: Job, share: Share, report: Reporter) -> float | None:
    """Run a job, waiting while another process writes its cache: a worker of a killed batch, or another job."""
    while True:
        try:
            return job.run(share, report)
        except CacheBusyError:
            time.sleep(_WAIT)


@contextmanager
def _limited(share: Share) -> Iterator[None]:
    """Limit torch, joblib and thread pools to a share of the machine within the block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(min(before, share.cores or before))
    # A job that runs in parallel with others must not start processes for its own search.
    alone = nullcontext() if share.forks else joblib.parallel_config(backend="sequential")
    try:
        with alone, threadpool_limits(None if share.forks else share.cores):
            yield
    finally:
        torch.set_num_threads(before)


@dataclass
class _JobReporter:
    """Reporter of a job: forwards progress, collects warnings and drops notes."""

    report: Reporter
    warnings: list[str] = field(default_factory=list)

    def note(self, message: str) -> None:
        """Ignore the note."""

    def warn(self, message: str) -> None:
        """Collect the warning."""
        self.warnings.append(message)

    @contextmanager
    def task(self, description: str, total: int | None) -> Iterator[Advance]:
        """Forward the progress."""
        with self.report.task(description, total) as advance:
            yield advance


def write_error(folder: Path, outcome: Outcome) -> Path:
    """Write the error message and the traceback of a failed job to a file."""
    path = folder / f"{outcome.job}.txt"
    replace_file(path, f"{outcome.error}\n\n{outcome.details}".encode(errors="surrogateescape"))
    return path
