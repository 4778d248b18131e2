"""Detection that another program has truncated a file that is mapped into memory.

The system answers an access to a page that the file no longer has with the signal SIGBUS, which ends the process without
a word.
"""

import ctypes
import errno
import mmap
import os
import signal
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from frostline.escapes import visible
from frostline.interrupts import INTERRUPTS, end_children, silence

_maps: "weakref.WeakKeyDictionary[mmap.mmap, Path]" = weakref.WeakKeyDictionary()
_told: "weakref.WeakSet[mmap.mmap]" = weakref.WeakSet()  # whose truncation is known
_handlers: list[Any] = []  # the handler, which must not be deleted


class TruncatedError(OSError):
    """A mapped file that has become shorter."""

    def __str__(self) -> str:
        """Return the message, which names the file."""
        return str(self.strerror)


def watch(memory: mmap.mmap, path: Path) -> None:
    """Register a mapped file, so that its truncation is explained.

    In a process of the command line, an access to a lost page then ends the process with a message and exit code 1. Other
    processes belong to a program of the user, and keep the handlers that it has chosen.
    """
    _maps[memory] = path
    if INTERRUPTS.in_charge and not _handlers and hasattr(signal, "SIGBUS"):
        _handle_bus_errors()


def check_size(memory: mmap.mmap, path: Path) -> None:
    """Raise `TruncatedError` if a mapped file has become shorter."""
    if memory.size() < len(memory):
        raise TruncatedError(errno.EIO, explain(path))


@contextmanager
def no_truncation() -> Iterator[None]:
    """Raise `TruncatedError` at the end of the block if a mapped file has become shorter in it; see `check_sizes`."""
    _told.update(_shorter())
    yield
    check_sizes()


def check_sizes() -> None:
    """Raise `TruncatedError` if a mapped file has become shorter since it was last looked at.

    Its last page reads as zeros behind the cut, without a signal. What was computed meanwhile is therefore not trusted.
    """
    for memory in _shorter():
        if memory not in _told:
            _told.add(memory)
            raise TruncatedError(errno.EIO, explain(_maps[memory]))


def explain(path: Path) -> str:
    """Return the message about a truncated file."""
    return (
        f"{path}: another program has truncated this file while it was being read; delete it, and run the same extract"
        " again, which computes its features again"
    )


def truncated() -> Path | None:
    """Return the path of a mapped file that has become shorter; None without one."""
    return next((_maps[memory] for memory in _shorter()), None)


def _shorter() -> list[mmap.mmap]:
    return [memory for memory in list(_maps) if memory.size() < len(memory)]


def _handle_bus_errors() -> None:
    """Call `_end` on SIGBUS, unless the signal has a handler already.

    A handler of Python's own module would run later, but the thread can't continue.
    """
    libc = ctypes.CDLL(None)
    libc.signal.restype = ctypes.c_void_p
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]

    def end(number: int) -> None:
        path = truncated()
        if path is None:  # returning repeats the access, which then ends the process
            libc.signal(number, None)
            return
        os.write(2, f"Error: {visible(explain(path))}\n".encode())
        silence()
        end_children()
        os._exit(1)

    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(end)
    _handlers.append(handler)
    earlier = libc.signal(signal.SIGBUS, ctypes.cast(handler, ctypes.c_void_p))
    if earlier:
        libc.signal(signal.SIGBUS, earlier)
