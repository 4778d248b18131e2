"""Commands on one target at the same time: each succeeds or says in one line that it can't, and nothing is lost."""

import errno
import json

import pytest

from tests.faults.harness.cases import CASES, command_of, parameters
from tests.faults.harness.folders import is_leftover, state_of
from tests.faults.harness.interposition import Fault
from tests.faults.harness.records import record
from tests.faults.harness.trials import Command
from tests.faults.harness.world import EXPORT, EXTRACT, EXTRACTION, IMPORT, TUNE

_MERGE = ("cache", "merge", "d.h5.part-1-of-2", "d.h5.part-2-of-2", "--delete-parts", "--quiet")
_GROW = ("extract", "../more", "--cache", "d.h5", *EXTRACT)
_TRAIN = ("train-head", "d.h5", "--head", "centroid", "--quiet")
_NAMED = (*_TRAIN, "--run", "run")
_SEARCH = (*_TRAIN[:2], "--head", "ridge", "--search", "random", "--trials", "3", "--run", "found", "--quiet")
_SHOTS = (
    "few-shot",
    "d.h5",
    "--head",
    "centroid",
    "--shots",
    "1",
    "--episodes",
    "3",
    "--out",
    "s",
    "--quiet",
)
_EVALUATE = ("evaluate", "run", "--quiet")
_COMPARE = ("compare", "run", "other")
_REPORT = ("report", "run", "other", "--out", "r.html", "--quiet")
_PREDICT = ("predict", "run", "../data/class0", "--engine", "eager", "--quiet")

_EXPORT = (*EXPORT, "--to", "npy")

CHOSEN = (
    ("empty", EXTRACTION, EXTRACTION),
    ("interrupted", EXTRACTION, _GROW),
    ("cache", _GROW, _TRAIN),
    ("cache", _GROW, ("cache", "verify", "d.h5")),
    ("cache", _GROW, ("rank", "d.h5")),
    ("parts", _MERGE, _MERGE),
    ("parts", _MERGE, EXTRACTION),
    ("parts", _MERGE, (*EXTRACTION, "--part", "1/2")),
    ("cache", _GROW, _EXPORT),
    ("cache", _GROW, ("map", "d.h5", "--out", "map", "--quiet")),
    ("exported to a folder", (*_EXPORT, "--overwrite"), (*_EXPORT, "--overwrite")),
    ("vectors", IMPORT, IMPORT),
    ("vectors", IMPORT, ("cache", "import", "v.csv", "--name", "t", "--out", "i.h5", "--quiet")),
    ("cache", _TRAIN, _TRAIN),
    ("cache", _NAMED, _NAMED),
    ("cache", _SEARCH, _SEARCH),
    ("cache", _SHOTS, _SHOTS),
    ("two runs", _EVALUATE, _EVALUATE),
    ("two runs", _EVALUATE, _COMPARE),
    ("two runs", _EVALUATE, _REPORT),
    ("two runs", _EVALUATE, _PREDICT),
    ("two runs", _EVALUATE, ("verify", "run")),
    ("two runs", _REPORT, _REPORT),
    ("empty", ("finetune", "../data", *TUNE), ("finetune", "../data", *TUNE)),
    ("study", ("batch", "study.toml", "--quiet"), ("batch", "study.toml", "--quiet")),
    ("study", ("batch", "study.toml", "--quiet"), ("batch", "study.toml", "--dry-run")),
)
_PAIRED = {command_of(pair[1]) for pair in CHOSEN}
TWICE = tuple(
    {
        case.command: (case.stage, case.arguments, case.arguments)
        for case in reversed(CASES)
        if case.command not in _PAIRED and not (case.patches or case.needs)
    }.values()
)
"""The first case of each other command, twice at the same time."""

PAIRS = (*CHOSEN, *TWICE)
LONG_PAIRS = {"finetune", "batch"}


def name_of(pair):
    return f"{' '.join(pair[1][:2])} and {' '.join(pair[2][:2])} from {pair[0]}"


def problems_of(outcomes, root):
    """What is wrong after commands that ran at the same time."""
    found = [f"hangs: {outcome}" for outcome in outcomes if outcome.hung]
    found += [
        str(outcome)
        for outcome in outcomes
        if not outcome.hung
        and (outcome.traceback or (outcome.code and (outcome.code != 1 or len(outcome.errors) != 1)))
    ]
    state = state_of(root)
    found += [
        f"{name}: {content}"
        for name, content in state.items()
        if "not readable" in content and not is_leftover(name)
    ]
    partials = [root / name for name in state if ".partial" in name]
    found += [f"left {path}" for path in partials if ".h5" not in path.name or not path.stat().st_size]
    for ledger in root.rglob("ledger.jsonl"):
        numbers = [json.loads(line)["evaluation_number"] for line in ledger.read_text().splitlines()]
        if numbers != list(range(1, len(numbers) + 1)):
            found.append(f"{ledger}: looks are numbered {numbers}")
    return found


def stop_at(world, pair, at):
    """Stop the first command before an event, run the second to its end, and let the first go on."""
    stage, first, second = pair
    world.start(stage)
    commands = [Command(first, fault=Fault("stop", at)), Command(second)]
    outcomes = world.server.run_all(commands)
    found = problems_of(outcomes, world.root)
    if not found and all(outcome.code for outcome in outcomes):
        found = ["neither succeeds"] + [str(outcome) for outcome in outcomes]
    return [f"stopped at event {at}: {problem}" for problem in found]


def stop_all(world, pair, count):
    world.start(pair[0])
    events = len(world.run(*pair[1]).events)
    found, places = [], sorted({events * number // count for number in range(count)})
    for at in places:
        found += stop_at(world, pair, at)
    record("concurrency", name_of(pair), "stopped at an event", len(places))
    assert not found, f"{len(found)}:\n" + "\n".join(found)


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair[1][0] not in LONG_PAIRS][::4], ids=name_of)
def test_a_command_runs_while_another_stands_still(world, pair):
    stop_all(world, pair, 2)


@pytest.mark.long
@pytest.mark.parametrize("pair", PAIRS, ids=name_of)
def test_a_command_runs_while_another_stands_still_at_many_events(world, pair):
    stop_all(world, pair, 40)


@pytest.mark.long
@pytest.mark.parametrize("pair", PAIRS, ids=name_of)
def test_several_of_each_at_the_same_time(world, pair):
    stage, first, second = pair
    for _ in range(3):
        world.start(stage)
        outcomes = world.server.run_all([Command(first), Command(second)] * 3)
        found = problems_of(outcomes, world.root)
        assert not found, "\n".join(found)
        assert any(outcome.code == 0 for outcome in outcomes)
    record("concurrency", name_of(pair), "six at the same time", 3)


def test_looks_of_processes_at_the_same_time_have_numbers_of_their_own(world):
    world.start("run")
    outcomes = world.server.run_all([Command(("evaluate", "run", "--json"))] * 4)
    assert [outcome.code for outcome in outcomes] == [0] * 4, "\n".join(map(str, outcomes))
    assert sorted(json.loads(outcome.stdout)["evaluation_number"] for outcome in outcomes) == [1, 2, 3, 4]
    assert problems_of(outcomes, world.root) == []


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP], ids=lambda code: errno.errorcode[code])
@pytest.mark.parametrize("case", parameters([case for case in CASES if not case.long][::6]))
def test_file_systems_without_locks(world, case, code):
    check_without_locks(world, case, code)


@pytest.mark.long
@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP], ids=lambda code: errno.errorcode[code])
@pytest.mark.parametrize("case", parameters(CASES))
def test_every_command_on_file_systems_without_locks(world, case, code):
    check_without_locks(world, case, code)
    record("concurrency", case.name, "without locks", 1)


def check_without_locks(world, case, code):
    world.start(case.stage)
    command = Command(case.arguments, patches=case.patches, fault=Fault(locks=code))
    (outcome,) = world.server.run_all([command])
    found = problems_of([outcome], world.root)
    assert not found, "\n".join(found)
    if outcome.code:
        assert "lock" in outcome.stderr
