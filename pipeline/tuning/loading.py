"""Loading of training images in processes, which the system may kill."""

import errno
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate
from torch.utils.data._utils import signal_handling

from frostline.interrupts import children_ignore_interrupts
from frostline.pipeline.errors import FinetuneError

Key = tuple[int, int]
"""Epoch and row."""

_KILLED = re.compile(
    r"DataLoader worker \(pid(?:\(s\))? [^)]*\) (?:exited unexpectedly|is killed by signal: ([\w ]+))"
)
_NO_SHARED_MEMORY = re.compile(r"shared memory|\bshm\b|unable to (open|mmap|allocate)", re.IGNORECASE)
# A killed process takes batches with it that it has announced. Errors of image files never get here.
_DISCONNECTED = (ConnectionError, EOFError, FileNotFoundError)
_NO_PROCESS = {errno.EAGAIN, errno.ENOMEM}


@dataclass(frozen=True)
class Unreadable:
    """Image that became unreadable.

    Attributes:
        name: Name of the image.
        reason: Reason in one line.
    """

    name: str
    reason: str


class ImageLoader:
    """Batches of images loaded in processes.

    If a process is killed, or the shared memory is full, the batches go on with fewer processes, and in this process in
    the end. The order and the contents of the batches are the same.

    Args:
        dataset: Images by (epoch, row). An item is an image and its label, or `Unreadable`.
        workers: Number of processes; 0 for this process.
        pin: Whether to place batches in page-locked memory, for CUDA.
        warn: Receiver of a warning whenever processes are lost.
    """

    def __init__(
        self, dataset: Dataset[Any], workers: int, *, pin: bool, warn: Callable[[str], None]
    ) -> None:
        self._dataset, self._workers, self._pin, self._warn = dataset, workers, pin, warn
        self._losses = 0
        self._keys: list[list[Key]] = []
        self._loader = self._make()

    def batches(self, keys: Sequence[list[Key]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield one batch of images and (b,) int64 labels per list of keys.

        Raises:
            FinetuneError: An image can't be read.
        """
        done = 0
        while done < len(keys):
            self._keys[:] = keys[done:]
            try:
                for batch in self._start():
                    if isinstance(batch, Unreadable):
                        raise FinetuneError(
                            f"{batch.name}: can't be read any more: {batch.reason}. The checkpoint is kept: restore the"
                            " image and run the same command again, or remove it and start over with --restart"
                        )
                    yield batch
                    done += 1
            except (RuntimeError, OSError, EOFError) as error:
                problem = _problem(error)
                if not problem or not self._workers:
                    raise
            else:
                return
            what, remedy, helps = problem
            self._continue(what, remedy, helps=helps)

    def _make(self) -> DataLoader[Any]:
        sampler: Any = _Live(self._keys)
        return DataLoader(
            self._dataset,
            batch_sampler=sampler,
            num_workers=self._workers,
            pin_memory=self._pin,
            persistent_workers=self._workers > 0,
            generator=torch.Generator(),  # otherwise the unused worker seeds would be drawn from the global generator
            worker_init_fn=_one_thread,
            collate_fn=_collate,
        )

    def _start(self) -> Iterator[Any]:
        with children_ignore_interrupts(), _handler_of_children_kept():
            return iter(self._loader)

    def _continue(self, what: str, remedy: str, *, helps: bool) -> None:
        """Replace the processes by fewer ones, and say so."""
        self._losses += 1
        self._workers = self._workers // 2 if helps and self._losses == 1 else 0
        self._loader = self._make()
        rest = f"with {self._workers} of them" if self._workers else "without them"
        self._warn(f"{what}. The training continues {rest}, with the same result. To prevent this, {remedy}.")


class _Live:
    """Batch sampler over a list that is filled before each pass."""

    def __init__(self, keys: list[list[Key]]) -> None:
        self._keys = keys

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self._keys)


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)


def _collate(items: list[Any]) -> Any:
    return next((item for item in items if isinstance(item, Unreadable)), None) or default_collate(items)


@contextmanager
def _handler_of_children_kept() -> Iterator[None]:
    """Undo that torch handles SIGCHLD: it would raise the death of a process amid an update of the weights.

    The death is found out as well when the next batch is waited for. A handler that torch installed earlier, for
    another loader of this process, is replaced by the default one for the same reason.
    """
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGCHLD)
    if handler is None or getattr(handler, "__module__", None) == signal_handling.__name__:
        handler = signal.SIG_DFL
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)


def _problem(error: Exception) -> tuple[str, str, bool] | None:
    """Return what happened to the processes, a remedy, and whether fewer processes help; None for another error."""
    text = str(error)
    killed = _KILLED.search(text)
    is_shared_memory = (
        error.errno == errno.ENOSPC
        if isinstance(error, OSError)
        else "Bus error" in text or (not killed and _NO_SHARED_MEMORY.search(text))
    )
    if is_shared_memory:
        return (
            "The shared memory (/dev/shm) is too small for the processes that load images",
            "enlarge it (docker run --shm-size=8g), or pass --workers 0",
            False,
        )
    if killed or isinstance(error, _DISCONNECTED):
        how = f" by the signal {killed[1]}" if killed and killed[1] else ""
        return (
            f"A process that loads images was killed{how}, most likely because the memory ran out",
            "pass a lower --workers",
            True,
        )
    if isinstance(error, OSError) and error.errno in _NO_PROCESS:
        return f"No process can be started to load images ({error.strerror})", "pass a lower --workers", True
    return None
