"""Process that imports Frostline once and forks one child per command; run by `trials.Server`.

Requests come as JSON lines on standard input, replies go to standard output. No thread runs here, so a fork is safe.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from tests.faults.harness.interposition import Fault, Library

TICK = 0.001
NOT_HERE = ("__", "tests.", "lance")
"""Begins of the names of modules that children import themselves; LanceDB starts a thread when it is imported."""

PATIENCE = 2
"""Seconds that a command may wait for one that was stopped."""


def _import_all(names):
    for name in names:
        if name not in sys.modules and not name.startswith(NOT_HERE):
            with contextlib.suppress(Exception):  # of a module that is not made to be imported by itself
                importlib.import_module(name)
    return _threads()


def _threads():
    """Names of the threads besides the main one. That of jemalloc, which pyarrow brings, is made for forks."""
    tasks = [task for task in Path("/proc/self/task").iterdir() if task.name != str(os.getpid())]
    return [name for task in tasks if (name := (task / "comm").read_text().strip()) != "jemalloc_bg_thd"]


def _become(request, library, state):
    """Turn a forked child into the process of a command, which ends here."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, number)
    os.chdir(request["folder"])
    os.environ.update(request["environment"])
    sys.argv = ["frostline", *request["arguments"]]
    for patch in request["patches"]:
        module, _, name = patch.partition(":")
        getattr(importlib.import_module(module), name)()
    from frostline.cli import main

    library.use(state)
    try:
        main(request["arguments"], prog_name="frostline")
        code = 0
    except SystemExit as error:
        code = error.code or 0
    except BaseException:  # noqa: BLE001  # what the interpreter does with it
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    library.use(None)
    if request["modules"]:
        Path(request["modules"]).write_text(json.dumps(list(sys.modules)), encoding="utf-8")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # without taking apart all modules, which takes longer than the command


class _Child:
    """A forked command."""

    def __init__(self, request, library):
        self.library = library
        self.state = library.begin(request["root"], Fault(**request["fault"]))
        self.status, self.stopped, self.pid = None, False, os.fork()

    def poll(self):
        """Note that the child stopped or ended; returns its status, None while it runs."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
            if pid and os.WIFSTOPPED(status):
                self.stopped = True
            elif pid:
                self.status = status
        return self.status

    def wait_until_stopped(self):
        while self.poll() is None and not self.stopped:
            time.sleep(TICK)

    def go_on(self):
        if self.stopped:
            self.stopped = False
            os.kill(self.pid, signal.SIGCONT)

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.status = -1

    def reply(self):
        events, disturbed = self.library.end(self.state)
        code = None if self.status == -1 else os.waitstatus_to_exitcode(self.status)
        return {"code": code, "events": events, "disturbed": disturbed}


def _run(requests, library, limit, pipes):
    """Run commands at the same time; of stopped ones the others end first."""
    children = []
    for request in requests:
        child = _Child(request, library)
        if not child.pid:
            for pipe in pipes:
                os.close(pipe)
            _become(request, library, child.state)
        children.append(child)
        if request["fault"]["mode"] == "stop":
            child.wait_until_stopped()
    end, patience = time.monotonic() + limit, time.monotonic() + min(limit, PATIENCE)
    while left := [child for child in children if child.poll() is None]:
        # What still runs may wait for what was stopped.
        if all(child.stopped for child in left) or time.monotonic() > patience:
            for child in left:
                child.go_on()
        if time.monotonic() > end:
            for child in left:
                child.kill()
        time.sleep(TICK)
    return [child.reply() for child in children]


def main():
    library = Library(os.environ.pop("LD_PRELOAD"))
    pipes = os.dup(0), os.dup(1)
    from frostline.cli import main as _command  # noqa: F401

    for change in sys.argv[1:]:
        module, _, rest = change.partition(":")
        name, is_value, value = rest.partition("=")
        if is_value:
            setattr(importlib.import_module(module), name, json.loads(value))
        else:
            getattr(importlib.import_module(module), name)()
    with open(pipes[0], encoding="utf-8", closefd=False) as requests:  # a descriptor
        while line := requests.readline():
            request = json.loads(line)
            if "imports" in request:
                reply = _import_all(request["imports"])
            else:
                gc.collect()
                gc.freeze()  # a collection in a child would copy all pages
                reply = _run(request["commands"], library, request["limit"], pipes)
            os.write(pipes[1], json.dumps(reply).encode() + b"\n")


if __name__ == "__main__":
    main()
