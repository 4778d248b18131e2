"""The ledger: no look at the test set is lost or counted under the number of another."""

import errno
import json
import os
import subprocess
import sys

import pytest

from frostline.pipeline.errors import RunError
from frostline.pipeline.runs.ledger import LEDGER_FILE, Ledger
from frostline.system import atomic, files
from tests.helpers.listener import Listener

LOOKS = int(os.environ.get("FROSTLINE_TEST_LOOKS", "30"))
LOOK = {"cache": "a.h5", "key": "k", "rows": 10}
RECORDER = """
import sys, pathlib
from frostline.pipeline.runs.ledger import Ledger
ledger = Ledger(pathlib.Path(sys.argv[1]))
print(flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[2])):
    print(ledger.record(cache="a.h5", key="k", rows=1))
"""


def numbers(ledger):
    return [entry.evaluation_number for entry in ledger.entries()]


def test_processes_never_give_the_same_number(tmp_path):
    command = [sys.executable, "-c", RECORDER, str(tmp_path), str(LOOKS)]
    running = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    for each in running:
        each.stdout.readline()
    for each in running:
        each.stdin.write(b"\n")
        each.stdin.flush()
    given = [int(line) for each in running for line in each.communicate()[0].split()]
    assert [each.returncode for each in running] == [0, 0]
    assert sorted(given) == list(range(1, 2 * LOOKS + 1))
    assert numbers(Ledger(tmp_path)) == sorted(given)


def test_number_follows_the_highest_of_earlier_versions(tmp_path):
    ledger = Ledger(tmp_path)
    for _ in range(3):
        ledger.record(**LOOK)
    text = ledger.file.read_text().replace('"evaluation_number": 3', '"evaluation_number": 2')
    ledger.file.write_text(text)
    report = Listener()
    assert ledger.record(**LOOK, report=report) == 4
    (warning,) = report.warnings
    assert "has 3 entries with 2 different numbers" in warning


def test_full_disk_leaves_the_ledger_as_it_was(tmp_path, monkeypatch):
    ledger = Ledger(tmp_path)
    ledger.record(**LOOK)
    before = ledger.file.read_bytes()

    def half(fd, view, offset):
        files.write_all(fd, view[: len(view) // 2], offset)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(atomic, "write_all", half)
        with pytest.raises(
            RunError, match=r"can't be written: .*No space left.* The evaluation was not made"
        ):
            ledger.record(**LOOK)
    assert ledger.file.read_bytes() == before
    assert ledger.record(**LOOK) == 2


@pytest.mark.parametrize("cut", [1, 30, -2])
def test_half_line_is_set_aside_and_counted(tmp_path, cut):
    ledger = Ledger(tmp_path)
    for _ in range(2):
        ledger.record(**LOOK)
    first, second = ledger.file.read_bytes().splitlines(keepends=True)
    ledger.file.write_bytes(first + second[:cut])
    assert numbers(ledger) == [1, 2]  # counted before it is set aside
    assert ledger.file.read_bytes() == first + second[:cut]
    report = Listener()
    assert ledger.record(**LOOK, report=report) == 3
    assert numbers(ledger) == [1, 2, 3]
    (warning,) = report.warnings
    assert "the last line was only half written" in warning
    (aside,) = [each for each in tmp_path.iterdir() if each.name != LEDGER_FILE]
    assert aside.name in warning
    assert aside.read_bytes() == second[:cut]
    assert ledger.entries()[1].set_aside == aside.name
    assert ledger.record(**LOOK, report=report) == 4
    assert len(report.warnings) == 1


def test_line_that_lacks_only_its_end_is_completed(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.record(**LOOK)
    ledger.file.write_bytes(ledger.file.read_bytes().rstrip())
    assert numbers(ledger) == [1]
    report = Listener()
    assert ledger.record(**LOOK, report=report) == 2
    assert [entry.rows for entry in ledger.entries()] == [10, 10]
    assert not report.warnings
    assert [each.name for each in tmp_path.iterdir()] == [LEDGER_FILE]


@pytest.mark.parametrize("step", ["replace_file", "write_all", "sync"])
def test_setting_aside_that_fails_loses_no_look(tmp_path, monkeypatch, step):
    """On a disk that is full or fails at each step, the half line stays or is replaced by its entry."""
    ledger = Ledger(tmp_path)
    ledger.record(**LOOK)
    with ledger.file.open("ab") as file:
        file.write(b'{"evaluation')

    def fail(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    module = "frostline.pipeline.runs.ledger" if step == "replace_file" else "frostline.system.atomic"
    with monkeypatch.context() as patched:
        patched.setattr(f"{module}.{step}", fail)
        with pytest.raises(RunError, match="Input/output error"):
            ledger.record(**LOOK)
    assert numbers(ledger) == [1, 2]
    assert ledger.record(**LOOK) == 3
    assert numbers(ledger) == [1, 2, 3]


def test_link_is_refused(tmp_path):
    target = tmp_path / "precious"
    target.write_text("")
    (tmp_path / LEDGER_FILE).symlink_to(target)
    with pytest.raises(RunError, match="is a symbolic link"):
        Ledger(tmp_path).record(**LOOK)
    assert target.read_text() == ""


def test_entries_have_the_fields_of_earlier_versions(tmp_path):
    Ledger(tmp_path).record(**LOOK)
    (line,) = (tmp_path / LEDGER_FILE).read_text().splitlines()
    assert list(json.loads(line)) == ["evaluation_number", "time", "cache", "key", "rows"]
