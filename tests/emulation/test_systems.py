"""What macOS and Windows lack is taken away: everything still works, and gives what it gives here."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.emulation import workflow
from tests.helpers.paths import ROOT

PATHS = (Path(__file__).parent, ROOT)  # here lies sitecustomize


def emulate(*arguments):
    """What `workflow` prints under an emulated Windows."""
    ran = subprocess.run(
        [sys.executable, "-c", "from tests.emulation import workflow; workflow.main()", *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "EMULATED_SYSTEM": "windows",
            "OMP_NUM_THREADS": "1",
            "PYTHONIOENCODING": "cp1252",  # what a Windows console of the West takes
            "PYTHONPATH": os.pathsep.join(map(str, PATHS)),
            "PYTHONWARNDEFAULTENCODING": "1",
        },
    )
    assert ran.returncode == 0, ran.stderr
    assert "sitecustomize" not in ran.stderr, ran.stderr  # Python goes on where it can't be imported
    return json.loads(ran.stdout)


@pytest.mark.real_processor
@pytest.mark.long
def test_all_stages_give_the_same_on_windows(fast_path, digits):
    """Engine eager, precision fp32, on one thread: byte for byte."""
    there = emulate(fast_path / "there", digits)
    here = workflow.run(fast_path / "here", digits, jobs=1)
    # JSON has no tuples.
    assert there["found"] == json.loads(json.dumps(here["found"]))
    assert there["recomputed"] == 0
    assert "another program has it open" in there["refusal"]
    assert "run the same command again" in there["refusal"]
    assert here["refusal"] == ""
    assert not list((fast_path / "there").rglob("*.lock"))


def test_caches_are_the_same_without_what_macos_lacks(fast_path, monkeypatch):
    here = workflow.write_caches(fast_path / "here")
    for name in ("posix_fallocate", "fdatasync", "sched_getaffinity"):
        monkeypatch.delattr(os, name, raising=False)
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda fd, _command: os.fsync(fd))
    assert workflow.write_caches(fast_path / "there") == here
