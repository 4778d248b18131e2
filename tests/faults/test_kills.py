"""A command killed at any file-system event leaves all as before, or is completed by the same command to the same bytes."""

from collections import Counter

import pytest

from tests.faults.harness.cases import CASES, READERS, parameters
from tests.faults.harness.folders import is_leftover, state_of
from tests.faults.harness.records import record
from tests.faults.harness.replay import Replay

SHARDS = 4
MOST = 300
"""Events of a command that are disturbed, evenly spaced; only `batch` and `demo`, which consist of others, have more."""

_replays = {}


def thinned(trials):
    """At most `MOST` of the trials, evenly spaced."""
    return trials[:: -(-len(trials) // MOST)] if len(trials) > MOST else trials


def replay_of(world, case):
    if case.name not in _replays:
        _replays[case.name] = Replay(world, case)
    return _replays[case.name]


def kill_all(replay, trials):
    """Everything that goes wrong when the command is killed there."""
    found, counts = [], Counter()
    for at, mode in trials:
        problems, event = replay.kill(at, mode)
        found += problems
        if event:
            counts[event.kind] += 1
    for kind, count in counts.items():
        record("kills", replay.case.name, kind, count)
    assert not found, f"{len(found)} of {len(trials)}:\n" + "\n".join(found)


@pytest.mark.parametrize("case", parameters([case for case in CASES if not case.long]))
def test_killed_commands_are_completed_by_the_next_run(world, case):
    replay = replay_of(world, case)
    kill_all(replay, [(at, "before") for at in replay.sample(2)])


@pytest.mark.long
@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("case", parameters(CASES))
def test_commands_killed_at_every_event_are_completed_by_the_next_run(world, case, shard):
    replay = replay_of(world, case)
    events = replay.reference.events
    trials = [(at, "before") for at in thinned(range(len(events)))]
    trials += thinned([(at, "torn") for at, event in enumerate(events) if event.kind in {"write", "pwrite"}])
    trials.append((len(events) - 1, "after"))
    kill_all(replay, trials[shard::SHARDS])


@pytest.mark.parametrize("case", parameters(CASES))
def test_undisturbed_commands_leave_nothing_unfinished(world, case):
    if case.long:
        pytest.skip("in the long form")
    left = [name for name in replay_of(world, case).reference.once.state if is_leftover(name)]
    assert left == []


@pytest.mark.parametrize("case", parameters(READERS))
def test_commands_that_read_change_nothing(world, case):
    world.start(case.stage)
    before = state_of(world.root)
    outcome = world.run(*case.arguments)
    assert outcome.events == ()
    assert state_of(world.root) == before
