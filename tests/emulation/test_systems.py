"""What macOS and Windows lack is taken away: everything still works, and gives what it gives here."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from frostline.features.system import files, locks, resources

HERE = Path(__file__).parent
PATHS = (HERE, HERE.parent / "cache", HERE.parents[1])


@pytest.fixture(scope="module")
def workflow():
    with pytest.MonkeyPatch.context() as patch:
        for path in PATHS:
            patch.syspath_prepend(path)
        import workflow

        yield workflow


def emulate(*arguments):
    """What `workflow` prints under an emulated Windows."""
    ran = subprocess.run(
        [sys.executable, "-c", "import workflow; workflow.main()", *arguments],
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
def test_all_stages_give_the_same_on_windows(workflow, fast_path, digits):
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


def test_caches_are_the_same_without_what_macos_lacks(workflow, fast_path, monkeypatch):
    here = workflow.write_caches(fast_path / "here")
    for name in ("posix_fallocate", "fdatasync", "sched_getaffinity"):
        monkeypatch.delattr(os, name, raising=False)
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda fd, _command: os.fsync(fd))
    assert workflow.write_caches(fast_path / "there") == here


def test_a_file_is_synced_to_the_disk_itself_where_fsync_does_not(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda fd, command: asked.append((fd, command)))
    monkeypatch.setattr(os, "fsync", lambda fd: asked.append((fd, "fsync")))
    fd = files.open_binary(tmp_path / "file")
    files.sync(fd)
    assert asked == [(fd, 51)]

    def unsupported(*_):
        raise OSError(45, "Operation not supported")

    monkeypatch.setattr(fcntl, "fcntl", unsupported)
    files.sync(fd)
    assert asked == [(fd, 51), (fd, "fsync")]
    os.close(fd)


def test_cores_are_those_that_python_counts(monkeypatch):
    monkeypatch.setattr(os, "process_cpu_count", lambda: 3, raising=False)
    assert resources.usable_cores() == 3
    monkeypatch.delattr(os, "process_cpu_count")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5}, raising=False)
    assert resources.usable_cores() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert resources.usable_cores() == 7


def test_an_older_version_that_locks_the_file_itself_is_kept_out(tmp_path):
    path = tmp_path / "c.h5.partial"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(locks.LockHeldError):
            locks.FileLock.acquire(path)
    lock = locks.FileLock.acquire(path)
    with path.open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    lock.release()
    assert [each.name for each in tmp_path.iterdir()] == ["c.h5.partial"]
