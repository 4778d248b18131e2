"""Signals that end a command: Ctrl-C (SIGINT) and SIGTERM.

The first signal raises an exception in the main thread, so that the command stops in an orderly way. A second Ctrl-C, or
`PATIENCE` seconds, end the process at once, also while compiled code runs, which no exception can stop.

This module is imported before all others of a command, so it imports little.
"""

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from types import FrameType

PATIENCE = 10.0
"""Seconds after the first signal until the process is ended by force."""

MESSAGE = "Interrupted. Committed results are kept; run the same command to resume."
"""Message of an interrupted command."""

_DEBOUNCE = 0.3  # seconds in which repeated signals are one: GNU timeout sends each signal twice
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM asked the process to end."""


class Interrupts:
    """Handling of the signals that end this process.

    Attributes:
        received: Number of the first signal that was received; 0 for none.
        told: Whether the user was told of the interruption.
        in_charge: Whether this process belongs to Frostline, and not to a program that uses it.
        in_command: Whether a command is running, which stops in an orderly way; before and after it, nothing has to.
    """

    def __init__(self) -> None:
        self.received = 0
        self.told = self.in_charge = self.in_command = False
        self._at = 0.0

    @property
    def exit_code(self) -> int:
        """Exit code of a process that a signal ended, as shells report it: 128 plus the number of the signal."""
        return 128 + (self.received or signal.SIGINT)

    def handle(self) -> None:
        """Handle the signals from now on. Child processes, forked or spawned, don't inherit the handlers.

        Call this function in the main thread of a program, never on import. A signal that is ignored, as in a job that a
        shell runs in the background, remains ignored.
        """
        self.in_charge = True
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._raise)
        sys.unraisablehook = self._raise_again
        reading, writing = os.pipe()
        if hasattr(os, "register_at_fork"):
            os.set_blocking(writing, False)
            os.register_at_fork(after_in_child=self._reset_in_child)
        # Python runs handlers between two instructions of the main thread; the number of a signal is written at once.
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(reading,), name="frostline-signals", daemon=True).start()

    def tell(self) -> None:
        """Tell the user of the interruption, once."""
        if not self.told:
            self.told = True
            show_cursor = "\x1b[?25h" if sys.__stderr__ and sys.__stderr__.isatty() else ""
            with suppress(OSError):
                os.write(2, f"{show_cursor}{MESSAGE}\n".encode())

    def end(self) -> None:
        """End the process and its child processes at once, without cleaning up what is not shared with them."""
        self.tell()
        silence()
        timer = threading.Timer(1.0, os._exit, [self.exit_code])
        timer.daemon = True
        timer.start()
        end_children()
        os._exit(self.exit_code)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        self._note(number)
        if not self.in_command or _imports(frame):  # an exception leaves a module half imported, or aborts
            self.end()
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    def _raise_again(self, ignored: "sys.UnraisableHookArgs") -> None:
        """Repeat an exception that Python has ignored, because it was raised while an object was deleted."""
        if not self.received or not isinstance(ignored.exc_value, KeyboardInterrupt):
            sys.__unraisablehook__(ignored)
            return
        timer = threading.Timer(0.01, _interrupt_main_thread, [self.received])
        timer.daemon = True
        timer.start()

    def _note(self, number: int) -> None:
        if not self.received:
            self.received, self._at = number, time.monotonic()

    def _watch(self, reading: int) -> None:
        """Read the numbers of signals as they arrive."""
        timer: threading.Timer | None = None
        while True:
            number = os.read(reading, 1)[0]
            if number not in _SIGNALS or signal.getsignal(number) != self._raise:
                continue
            self._note(number)
            if timer is None:
                timer = threading.Timer(PATIENCE, self.end)
                timer.daemon = True
                timer.start()
            elif time.monotonic() - self._at > _DEBOUNCE:
                self.end()

    def _reset_in_child(self) -> None:
        """Let the parent decide when a forked child ends, and leave its pipe alone."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _interrupt_main_thread(number: int) -> None:
    """Send a signal to the main thread, which also ends a call of the system that waits."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:  # Windows
        _thread.interrupt_main(signal.Signals(number))


def _imports(frame: FrameType | None) -> bool:
    """Return whether a module is being imported."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


INTERRUPTS = Interrupts()
"""The signals of this process."""


@contextmanager
def children_ignore_interrupts() -> Iterator[None]:
    """Start processes and threads that Ctrl-C doesn't reach; this process ends them.

    A terminal sends Ctrl-C to all processes of a command. Each would stop with a traceback. Processes started within
    the block, and processes that threads started within the block start at any time, leave the signal pending.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # its start would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """End this process as soon as its parent has ended, for whatever reason. For processes of `multiprocessing`."""
    from multiprocessing import connection, parent_process

    INTERRUPTS.in_charge = True
    parent = parent_process()
    if parent is None:
        return

    _exit_after(lambda: connection.wait([parent.sentinel]))


@cache
def end_after(parent: int) -> None:
    """End this process within a second after its parent, for whatever reason that ended.

    For the worker processes of joblib, which otherwise wait five minutes for more work. Another process than a child of
    `parent` is left alone.
    """
    if os.getppid() != parent:
        return

    def wait() -> None:
        while os.getppid() == parent:
            time.sleep(1)

    _exit_after(wait)


def _exit_after(wait: Callable[[], object]) -> None:
    """End this process when a function returns that waits for the end of its parent."""

    def watch() -> None:
        wait()
        os._exit(1)

    threading.Thread(target=watch, name="frostline-parent", daemon=True).start()


def silence() -> None:
    """Print no more errors: threads and child processes fail in many ways while the process ends."""
    sys.stderr.flush()
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)


def end_children() -> None:
    """Kill all processes that `multiprocessing` started here. All files are safe from that: they are written atomically."""
    if "multiprocessing.process" in sys.modules:
        from multiprocessing import active_children

        for child in active_children():
            with suppress(Exception):  # it has ended, or was closed
                child.kill()
        from multiprocessing import util

        with suppress(Exception):
            util._run_finalizers(0)  # type: ignore[attr-defined]  # noqa: SLF001  # or semaphores are reported as leaked
