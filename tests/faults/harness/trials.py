"""Commands in processes of their own, watched and disturbed: `Server` starts them, `Outcome` is what came of one."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tests.faults.harness.interposition import WATCHED, Event, Fault, compiled
from tests.helpers.paths import ROOT

HANG = 120
"""Seconds after which a command of a fraction of a second counts as hanging."""

QUICK = (
    "frostline.features.cache.writing.creation:BLOCK_ROWS=8",
    "frostline.features.cache.opening:BLOCK_ROWS=8",
    "tests.faults.harness.patches:quick_plots",
)
"""Changes that let a few images fill several blocks, which readers accept of any size, and draw no plots."""

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Command:
    """A command line and its surroundings.

    Attributes:
        arguments: Arguments of `frostline`.
        fault: Disturbance.
        environment: Environment variables to change.
        patches: Functions ``module:name`` that are called in the child before the command.
    """

    arguments: tuple[str, ...]
    fault: Fault = WATCHED
    environment: tuple[tuple[str, str], ...] = ()
    patches: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What came of a command.

    Attributes:
        arguments: Its arguments.
        code: Exit code; negative for a signal, None if it was killed because it hung.
        stdout: Its standard output.
        stderr: Its standard error.
        events: What it did to the watched folder.
        disturbed: Whether the disturbance happened.
    """

    arguments: tuple[str, ...]
    code: int | None
    stdout: str
    stderr: str
    events: tuple[Event, ...]
    disturbed: bool

    @property
    def killed(self):
        return self.code == -9

    @property
    def hung(self):
        return self.code is None

    @property
    def traceback(self):
        return "Traceback (most recent call last)" in self.stderr or self.code not in {0, 1, 2, -9}

    @property
    def errors(self):
        """The lines of standard error that tell of an error."""
        return [line for line in self.stderr.splitlines() if line.startswith("Error: ")]

    def __str__(self):
        return f"frostline {' '.join(self.arguments)}: exit code {self.code}\n{self.stdout[-1500:]}{self.stderr[-3000:]}"


class Server:
    """Process that forks commands.

    Args:
        root: Folder in which commands run, and whose changes are watched. Its parent is a scratch folder.
        changes: Attributes to set in the server, as ``module:name=JSON``, and functions to call, as ``module:name``.
    """

    def __init__(self, root, changes=QUICK):
        library = compiled()
        if isinstance(library, str):
            raise RuntimeError(library)  # noqa: TRY004  # the reason why there is none
        self.root, self._known = Path(root), set()
        self._scratch = Path(tempfile.mkdtemp(prefix="frostline-trials-"))
        paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.harness.server", *changes],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={
                **os.environ,
                **dict.fromkeys(_THREADS, "1"),
                "LD_PRELOAD": os.fspath(library),
                "PYTHONPATH": paths,
                "MPLBACKEND": "agg",
            },
        )

    def run(self, *arguments, **options):
        """Run one command to its end."""
        return self.run_all([Command(tuple(map(str, arguments)), **options)])[0]

    def run_all(self, commands, *, limit=HANG):
        """Run commands at the same time. One that stops at an event goes on when those after it have ended."""
        requests = [self._request(number, command) for number, command in enumerate(commands)]
        replies = self._ask({"commands": requests, "limit": limit})
        outcomes = [
            Outcome(
                command.arguments,
                reply["code"],
                Path(request["stdout"]).read_text(encoding="utf-8", errors="replace"),
                Path(request["stderr"]).read_text(encoding="utf-8", errors="replace"),
                tuple(Event(*line.split("\t")) for line in reply["events"]),
                reply["disturbed"],
            )
            for command, request, reply in zip(commands, requests, replies, strict=True)
        ]
        self._import_what_was_needed(requests)
        return outcomes

    def _request(self, number, command):
        known = command.arguments in self._known or command.fault.mode != "watch"
        modules = "" if known else self._scratch / f"modules-{number}"
        self._known.add(command.arguments)
        return {
            "arguments": command.arguments,
            "folder": str(self.root),
            "root": str(self.root),
            "stdout": str(self._scratch / f"stdout-{number}"),
            "stderr": str(self._scratch / f"stderr-{number}"),
            "fault": asdict(command.fault),
            "environment": dict(command.environment),
            "patches": command.patches,
            "modules": str(modules),
        }

    def _import_what_was_needed(self, requests):
        """Import in the server what a child had to import, for the children after it."""
        for request in requests:
            if request["modules"] and Path(request["modules"]).is_file():
                threads = self._ask({"imports": json.loads(Path(request["modules"]).read_bytes())})
                if threads:
                    raise RuntimeError(f"the server runs the threads {threads}; forks of it are not safe")

    def _ask(self, request):
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server of the trials ended with exit code {self._process.wait()}")
        return json.loads(line)

    def close(self):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def with_fault(command, **fault):
    """The command under a disturbance."""
    return replace(command, fault=Fault(**fault))
