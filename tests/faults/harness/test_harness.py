"""The harness itself: it sees every event, and every disturbance happens where it was asked for."""

import errno
import re
import shutil
import subprocess
import sys

import pytest

from tests.faults.harness.folders import content_of, differences, is_leftover, state_of
from tests.faults.harness.interposition import Fault
from tests.faults.harness.records import VARIABLE, record
from tests.faults.harness.world import EXTRACTION
from tests.faults.table import END, START, insert, tables
from tests.helpers.paths import ROOT

_SEEN = re.compile(r"^\d+ +(?:\[pid \d+\] )?(\w+)\(")
_KINDS = {
    "open": "open",
    "openat": "open",
    "write": "write",
    "pwrite64": "pwrite",
    "ftruncate": "ftruncate",
    "fallocate": "fallocate",
    "fsync": "fsync",
    "fdatasync": "fsync",
    "rename": "rename",
    "renameat": "rename",
    "unlink": "unlink",
    "unlinkat": "unlink",
    "mkdir": "mkdir",
    "mkdirat": "mkdir",
}


def events(outcome):
    return [(event.kind, event.path) for event in outcome.events]


@pytest.mark.long
def test_events_of_a_run_are_those_that_change_its_folder(world):
    world.start("empty")
    found = events(world.run(*EXTRACTION))
    kinds = {kind for kind, _ in found}
    assert {"open", "pwrite", "fallocate", "fsync", "rename"} <= kinds
    assert ("rename", "/d.h5") in found


@pytest.mark.parametrize("mode", ["before", "after"])
def test_a_kill_happens_at_its_event(world, mode):
    arguments = ("evaluate", "run", "--quiet")  # in one thread, so that two runs have the same events
    file = world.root / "run" / "evaluation.json"
    world.start("run")
    file.unlink(missing_ok=True)
    whole = events(world.run(*arguments))
    place = whole.index(("rename", "/run/evaluation.json"))
    world.start("run")
    file.unlink(missing_ok=True)
    outcome = world.server.run(*arguments, fault=Fault(mode, place))
    assert outcome.killed
    assert events(outcome)[-1] == ("rename", "/run/evaluation.json")
    assert file.exists() == (mode == "after")


def test_a_torn_write_writes_half(world):
    world.start("run")
    arguments = ("evaluate", "run", "--quiet")
    whole = events(world.run(*arguments))
    place = next(
        at for at, (kind, path) in enumerate(whole) if "write" in kind and path.endswith("ledger.jsonl")
    )
    size = (world.root / "run" / "ledger.jsonl").stat().st_size
    world.start("run")
    assert world.server.run(*arguments, fault=Fault("torn", place)).killed
    assert 0 < (world.root / "run" / "ledger.jsonl").stat().st_size < size


def test_an_error_is_that_of_the_call(world):
    world.start("empty")
    outcome = world.server.run(*EXTRACTION, fault=Fault("fail", 0, error=errno.EROFS, sticky=True))
    assert outcome.code == 1
    assert "Read-only file system" in outcome.stderr


def test_a_stopped_command_goes_on_after_the_others(world):
    from tests.faults.harness.trials import Command

    world.start("empty")
    laid_out = [kind for kind, _ in events(world.run(*EXTRACTION))].index(
        "fallocate"
    )  # before any thread starts
    world.start("empty")
    commands = [Command(EXTRACTION, fault=Fault("stop", laid_out)), Command(EXTRACTION)]
    first, second = world.server.run_all(commands)
    assert first.disturbed
    assert first.code == 0
    assert "is writing this cache" in second.stderr


def test_a_hanging_command_is_ended(world):
    from tests.faults.harness.trials import Command

    world.start("empty")
    patches = ("tests.faults.harness.patches:sleep_for_ever",)
    (outcome,) = world.server.run_all([Command(("--version",), patches=patches)], limit=1)
    assert outcome.hung


def test_states_differ_by_content_and_not_by_time(tmp_path):
    (tmp_path / "a.json").write_text('{"seconds": 1, "rows": 2}')
    before = state_of(tmp_path)
    (tmp_path / "a.json").write_text('{"seconds": 3, "rows": 2}')
    assert state_of(tmp_path) == before
    (tmp_path / "a.json").write_text('{"seconds": 3, "rows": 4}')
    assert differences(state_of(tmp_path), before)
    (tmp_path / "a.json").write_text('{"seco')
    assert "not readable" in content_of(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("name", "expected"),
    [(".x.ab12.partial", True), ("d.h5.partial", True), ("run/ledger.jsonl", False), ("run/run.json", False)],
)
def test_leftovers_are_known_by_their_names(name, expected):
    assert is_leftover(name) == expected


def test_records_are_lines_of_json(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "r.jsonl"))
    record("kills", "extract", "rename", 3)
    record("kills", "extract", "rename", 0)
    assert (tmp_path / "r.jsonl").read_text().count("\n") == 1


def test_counts_become_tables_between_the_marks_of_a_document(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "r.jsonl"))
    record("kills", "extract", "rename", 3)
    record("kills", "extract", "rename", 2)
    record("kills", "merge", "unlink", 1)
    made = tables((tmp_path / "r.jsonl").read_text().splitlines())
    assert "| extract | 5 |  | 5 |" in made
    assert "| all | 5 | 1 | 6 |" in made
    once = insert(f"before\n{START}\nold\n{END}\nafter\n", made)
    assert once.startswith("before\n")
    assert once.endswith("after\n")
    assert "old" not in once
    assert insert(once, made) == once


@pytest.mark.long
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_the_kernel_sees_the_same_events(world, tmp_path):
    """An interpreter of its own under strace makes the calls that the library counted."""
    world.start("two runs")
    arguments = ("report", "run", "other", "--out", "r.html", "--quiet")
    ours = [
        event.kind for event in world.run(*arguments).events if event.path.endswith((".html", ".partial"))
    ]
    (world.root / "r.html").unlink()
    ran = subprocess.run(
        [
            *("strace", "-f", "-y", "-o", tmp_path / "calls", "-e", f"trace={','.join(_KINDS)}"),
            *(sys.executable, "-m", "frostline", *arguments),
        ],
        check=False,
        capture_output=True,
        text=True,
        cwd=world.root,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "MPLBACKEND": "agg"},
    )
    if ran.returncode and "ptrace" in ran.stderr:
        pytest.skip("strace may not trace here")
    assert ran.returncode == 0, ran.stderr
    lines = (tmp_path / "calls").read_text(errors="replace").splitlines()
    about = [
        line
        for line in lines
        if "r.html" in line.split(" = ")[0] and "O_RDONLY" not in line and "(1<" not in line
    ]
    theirs = [_KINDS[found[1]] for line in about if (found := _SEEN.match(line))]
    assert theirs == [kind for kind in ours if kind in set(_KINDS.values())]
