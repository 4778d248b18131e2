"""Files, cores and locks where a system lacks a function."""

import fcntl
import os

import pytest

from frostline.system import files, locks, resources


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
