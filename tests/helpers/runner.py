"""Running commands in this process, with stdout and stderr apart as click 8.2 always has them, and as processes."""

import inspect
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from click import testing

from frostline import cli

_APART = {"mix_stderr": False} if "mix_stderr" in inspect.signature(testing.CliRunner).parameters else {}


_PATIENCE = 120  # seconds until a process that hangs is ended, which fails the test


class CliRunner(testing.CliRunner):
    """The same for every click."""

    def __init__(self):
        super().__init__(**_APART)


def run(*arguments, code=0):
    """Run `frostline` with arguments, and check its exit code; an error that is not expected is raised."""
    result = CliRunner().invoke(cli.main, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def _heed_signals():
    """Let signals end this process, also where the tests run in the background of a shell, which ignores Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


class Command:
    """A process in a session of its own, as a terminal starts it."""

    def __init__(self, *arguments, python=("-m", "frostline"), **options):
        self.process = subprocess.Popen(
            [sys.executable, *python, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            **{"preexec_fn": _heed_signals, **options},
        )
        self.pid = self.process.pid

    def wait_for(self, happened):
        """Wait until something is true, or the process has ended."""
        while not happened() and self.process.poll() is None:
            time.sleep(0.005)

    def is_mapped(self, text):
        """Whether a file with this text in its path is mapped into the memory of the process."""
        return text in Path(f"/proc/{self.pid}/maps").read_text(errors="replace")

    def signal(self, number, *, group=False):
        """Send a signal to the process, or like a terminal to all processes of the command."""
        (os.killpg if group else os.kill)(self.pid, number)

    def finish(self):
        """Exit code and standard error. Processes that are left behind, or a process that hangs, fail the test."""
        try:
            _, errors = self.process.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, 9)
            raise AssertionError(f"hangs: {self.process.communicate()}") from None
        end = time.monotonic() + _PATIENCE
        while left := self.left():
            if time.monotonic() > end:
                os.killpg(self.pid, 9)
                raise AssertionError(f"left behind: {left}")
            time.sleep(0.02)
        return self.process.returncode, errors

    def left(self):
        """Command lines of the processes of the session that still run."""
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal():
                try:
                    state, _, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
                    if int(session) == self.pid and state != "Z":
                        found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
                except OSError:  # it has just ended
                    continue
        return found
