"""The library for LD_PRELOAD: compiled on demand, and the disturbance that it is told to cause."""

import ctypes
import errno
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

SOURCE = Path(__file__).with_name("interposed.c")
EVENTS = (
    *("open", "write", "pwrite", "ftruncate", "fallocate", "fsync", "rename"),
    *("unlink", "mkdir", "rmdir", "link", "symlink", "chmod"),
)
"""Kinds of events, in the order of the library's enumeration."""

MODES = ("watch", "before", "after", "torn", "fail", "short", "stop")
"""Faults at an event, in the order of the enumeration of the library.

``before`` and ``after``: the process is killed there. ``torn``: half of the bytes are written, then the process is killed.
``fail``: the call fails. ``short``: half of the bytes are written, and the calls after that fail. ``stop``: the process stops
before the event, and the event happens when it goes on.
"""


@dataclass(frozen=True)
class Fault:
    """A disturbance.

    Attributes:
        mode: What happens; see `MODES`.
        at: Index of the event, from 0.
        error: Error of the calls that fail.
        sticky: Whether all later calls fail as well.
        kinds: Kinds of events that fail.
        locks: Error of all locks; 0 for locks that work.
    """

    mode: str = "watch"
    at: int = -1
    error: int = errno.EIO
    sticky: bool = False
    kinds: tuple[str, ...] = EVENTS
    locks: int = 0


WATCHED = Fault()
"""Nothing happens, and events are counted."""


@dataclass(frozen=True)
class Event:
    """A call that changes the file system.

    Attributes:
        kind: One of `EVENTS`.
        path: Path below the watched folder; of a renaming the new one.
        source: The old path of a renaming below the watched folder.
    """

    kind: str
    path: str
    source: str = ""


@functools.cache
def compiled():
    """Return the path of the library, or the reason why it can't be built."""
    if not sys.platform.startswith("linux"):
        return "calls of the C library are interposed on Linux only"
    compiler = _compiler()
    if not compiler:
        return "no C compiler (cc, or Python's package ziglang) compiles the library that interposes calls"
    path = Path(tempfile.mkdtemp(prefix="frostline-faults-")) / "interposed.so"
    made = subprocess.run(
        [*compiler, "-shared", "-fPIC", "-O1", "-U_FORTIFY_SOURCE", "-o", path, SOURCE, "-ldl"],
        check=False,
        capture_output=True,
        text=True,
    )
    return path if made.returncode == 0 else f"{' '.join(compiler)} fails: {made.stderr[:500]}"


def _compiler():
    """Return the command line of a C compiler, or an empty list if none is installed."""
    if found := shutil.which("cc"):
        return [found]
    return [sys.executable, "-m", "ziglang", "cc"] if find_spec("ziglang") else []


class Library:
    """The library within the process that it was loaded into before everything else."""

    def __init__(self, path):
        self._calls = ctypes.CDLL(os.fspath(path))
        self._calls.faults_begin.restype = ctypes.c_void_p
        self._calls.faults_begin.argtypes = [
            *(ctypes.c_char_p, ctypes.c_int, ctypes.c_long),
            *(ctypes.c_int, ctypes.c_int, ctypes.c_uint, ctypes.c_int),
        ]
        self._calls.faults_use.argtypes = [ctypes.c_void_p]
        self._calls.faults_log.argtypes = [ctypes.c_void_p]
        self._calls.faults_log.restype = ctypes.c_char_p
        self._calls.faults_disturbed.argtypes = [ctypes.c_void_p]
        self._calls.faults_end.argtypes = [ctypes.c_void_p]

    def begin(self, root, fault):
        """State of one trial, in memory that forked processes share."""
        kinds = sum(1 << EVENTS.index(kind) for kind in fault.kinds)
        made = self._calls.faults_begin(
            os.fsencode(root),
            MODES.index(fault.mode),
            fault.at,
            fault.error,
            int(fault.sticky),
            kinds,
            fault.locks,
        )
        if not made:
            raise MemoryError("no shared memory for the events of a trial")
        return made

    def use(self, state):
        """Watch this process from now on."""
        self._calls.faults_use(state)

    def end(self, state):
        """Lines of the events, and whether the disturbance happened."""
        lines = os.fsdecode(self._calls.faults_log(state)).splitlines()
        disturbed = bool(self._calls.faults_disturbed(state))
        self._calls.faults_end(state)
        return lines, disturbed
