"""Jobs on joblib: in this process, in several, or on the workers of a Dask cluster; a failure stops only what reads it."""

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
from frostline.pipeline.hosts.memory import half_of_memory
from frostline.pipeline.progress import SILENT, Advance, Reporter
from frostline.pipeline.studies.jobs.kinds import Job, Share

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
    from frostline.features.images.loading import default_workers

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
    yield from _on_cluster(jobs, share) if workers is None else _in_processes(jobs, workers, share)


def _on_cluster(jobs: Sequence[Job], share: Share) -> Iterator[Outcome]:
    """Through the backend that joblib's `parallel_config` names."""
    calls = (joblib.delayed(perform)(job, share) for job in jobs)
    yield from joblib.Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="all")(calls)


def _in_processes(jobs: Sequence[Job], workers: int, share: Share) -> Iterator[Outcome]:
    """In so many processes of this machine, each with one job at a time, so that one that dies tells which it had."""
    hands = _Hands(share)
    try:
        calls = (joblib.delayed(hands.do)(job) for job in jobs)
        yield from joblib.Parallel(
            n_jobs=workers,
            backend="threading",
            return_as="generator_unordered",
            batch_size=1,
            pre_dispatch="all",
        )(calls)
    finally:
        hands.close()


class _Hands:
    """A process for each thread that asks, used again until it dies."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self._mine = threading.local()
        self._all: list[ProcessPoolExecutor] = []

    def do(self, job: Job) -> Outcome:
        """Do a job in this thread's process."""
        started = time.perf_counter()
        try:
            return self._process().submit(perform, job, self._share).result()
        except BrokenProcessPool as error:  # by the system, for its memory, or by a person
            del self._mine.process
            seconds = time.perf_counter() - started
            return Outcome(job.path.name, seconds, error="its process was killed", details=str(error))

    def _process(self) -> ProcessPoolExecutor:
        if not hasattr(self._mine, "process"):
            self._mine.process = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
            self._all.append(self._mine.process)
        found: ProcessPoolExecutor = self._mine.process
        return found

    def close(self) -> None:
        """End the processes."""
        for process in self._all:
            process.shutdown(wait=False, cancel_futures=True)


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
        with alone, threadpool_limits(None if share.forks else share.cores):
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
