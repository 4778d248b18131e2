"""Writes that fail: one line tells it, nothing is lost, and the next run completes the work."""

import errno
import shutil
import subprocess
from collections import Counter

import pytest

from tests.faults.harness.cases import CASES, parameters
from tests.faults.harness.folders import state_of
from tests.faults.harness.records import record
from tests.faults.harness.replay import GROWING, WRITING
from tests.faults.harness.trials import Command
from tests.faults.harness.world import copy
from tests.faults.test_kills import SHARDS, replay_of, thinned

ERRORS = {
    "ENOSPC": {"error": errno.ENOSPC, "mode": "short", "sticky": True, "kinds": GROWING},
    "EDQUOT": {"error": errno.EDQUOT, "mode": "fail", "sticky": True, "kinds": GROWING},
    "EIO": {"error": errno.EIO, "mode": "fail", "sticky": False},
    "EACCES": {"error": errno.EACCES, "mode": "fail", "sticky": False},
    "EROFS": {"error": errno.EROFS, "mode": "fail", "sticky": True},
}


def fail_all(replay, trials):
    """Everything that goes wrong when writes fail there."""
    found, counts = [], Counter()
    for at, name in trials:
        problems, event = replay.fail(at, **ERRORS[name])
        found += [f"{name}: {problem}" for problem in problems]
        if event:
            counts[name] += 1
    for name, count in counts.items():
        record("errors", replay.case.name, name, count)
    assert not found, f"{len(found)} of {len(trials)}:\n" + "\n".join(found)


@pytest.mark.parametrize("case", parameters([case for case in CASES if not case.long]))
def test_writes_that_fail_lose_nothing(world, case):
    replay = replay_of(world, case)
    at = replay.sample(6, WRITING)
    fail_all(replay, [(at[0], "EACCES"), (at[len(at) // 2], "ENOSPC")])


@pytest.mark.long
@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("case", parameters(CASES))
def test_every_write_that_fails_loses_nothing(world, case, shard):
    replay = replay_of(world, case)
    writes = thinned([at for at, event in enumerate(replay.reference.events) if event.kind in WRITING])
    trials = [(at, "ENOSPC") for at in writes]
    trials += [(at, name) for name in ERRORS if name != "ENOSPC" for at in replay.sample(16, WRITING)]
    fail_all(replay, trials[shard::SHARDS])


@pytest.fixture
def small_disk(world):
    """Function that makes the folder of the world a disk of its own with so many bytes to spare."""
    mounted = []

    def mount(stage, spare):
        world.start(stage)
        aside = world.base / "on-disk"
        copy(world.root, aside)
        used = int(subprocess.check_output(["du", "-s", "-B", "4096", aside]).split()[0]) + 2  # noqa: S607
        size = 4096 * used + spare
        if mounted:
            subprocess.run(["umount", "--lazy", world.root], check=True)  # noqa: S607
            mounted.clear()
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", world.root],  # noqa: S607
            check=False,
            capture_output=True,
            text=True,
        )
        if made.returncode:
            pytest.skip(f"no file system can be mounted: {made.stderr.strip()}")
        mounted.append(size)
        shutil.copytree(aside, world.root, symlinks=True, dirs_exist_ok=True)

    yield mount
    if mounted:
        subprocess.run(["umount", "--lazy", world.root], check=True)  # noqa: S607


@pytest.mark.long
@pytest.mark.parametrize("case", parameters([case for case in CASES if not case.long]))
def test_a_full_disk_loses_nothing(world, small_disk, case):
    replay = replay_of(world, case)
    command = Command(case.arguments, patches=case.patches)
    found, tried = [], 0
    for pages in (0, 1, 2, 4, 6, 8, 12, 16, 24, 32, 48):
        small_disk(case.stage, 4096 * pages)
        (outcome,) = world.server.run_all([command])
        if outcome.code == 0 and not outcome.stderr.strip():
            break
        tried += 1
        if outcome.code != 0 and (outcome.traceback or outcome.code != 1 or len(outcome.errors) != 1):
            found.append(f"{pages} pages: {outcome}")
        subprocess.run(["mount", "-o", "remount,size=256m", world.root], check=True)  # noqa: S607
        (again,) = world.server.run_all([command])
        after = state_of(world.root)
        if all((again.code, after) != (each.code, each.state) for each in replay.reference.endings):
            missing = replay.reference.once.state.keys() - after.keys()
            if outcome.code or not all(name.endswith((".png", ".html")) for name in missing):
                found.append(f"{pages} pages: the next run differs: {again}, missing {missing}")
    record("errors", case.name, "full disk", tried)
    assert not found, "\n".join(found)
