"""Replay of a command with a disturbance at one of its events, and of what the next run makes of it."""

import re
from collections import Counter
from dataclasses import dataclass

from tests.faults.harness.folders import differences, digest_of, is_leftover, state_of
from tests.faults.harness.trials import Command, with_fault

WRITING = ("open", "write", "pwrite", "ftruncate", "fallocate", "fsync", "rename", "mkdir", "link", "symlink")
"""Events that a failing disk refuses."""

GROWING = tuple(kind for kind in WRITING if kind != "ftruncate")
"""Events that a full disk refuses, which can still shorten a file."""

_WEIGHTS = {
    "rename": 0,
    "unlink": 1,
    "rmdir": 1,
    "mkdir": 2,
    "ftruncate": 2,
    "open": 3,
    "write": 3,
    "fsync": 4,
}

_NAMELESS = re.compile(r"Error: \[Errno \d+\] [^:'/]*")
"""Pattern of the error of a system call that names no file."""


@dataclass(frozen=True)
class Ending:
    """How a command ended: its exit code, and the folder then."""

    code: int | None
    state: dict


@dataclass(frozen=True)
class Reference:
    """A case that nothing disturbs.

    Attributes:
        before: The folder before.
        once: After one run.
        endings: After another one, and with one of its evaluations repeated.
        events: What the first run did.
    """

    before: dict
    once: Ending
    endings: tuple[Ending, ...]
    events: tuple


class Replay:
    """A case, and what it does without a disturbance."""

    def __init__(self, world, case):
        self.world, self.case = world, case
        self.command = Command(case.arguments, patches=case.patches)
        world.start(case.stage)
        before = self._state()
        self._run()  # the server imports what it needed
        world.start(case.stage)
        first, once = self._run()
        _, twice = self._run()
        if first.code != 0:
            raise AssertionError(str(first))
        self.reference = Reference(
            before, once, (once, twice, *self._with_evaluations_repeated()), first.events
        )

    def _with_evaluations_repeated(self):
        if not self.case.evaluates:
            return
        for run in sorted(
            path.relative_to(self.world.root) for path in self.world.root.glob(self.case.evaluates)
        ):
            self.world.start(self.case.stage)
            code = self._run()[1].code
            self.world.server.run_all([Command(("evaluate", str(run), "--quiet"))])
            yield Ending(code, self._state())

    def _run(self, **fault):
        command = with_fault(self.command, **fault) if fault else self.command
        (outcome,) = self.world.server.run_all([command])
        return outcome, Ending(outcome.code, self._state())

    def _state(self):
        state, spare = state_of(self.world.root), self.case.spare
        return {name: content for name, content in state.items() if not spare or not name.startswith(spare)}

    def kill(self, at, mode):
        """Kill the command at an event and run it again; returns what is wrong, and whether it was killed."""
        self.world.start(self.case.stage)
        outcome, torn = self._run(mode=mode, at=at)
        if not outcome.killed:  # threads had fewer events this time
            return ([] if outcome.code == 0 else [str(outcome)]), None
        event = outcome.events[-1]
        where = f"killed at event {at} ({mode} {event.kind} {event.path}): "
        found = [where + each for each in self._torn(torn.state)]
        return found + [where + each for each in self._next()], event

    def fail(self, at, error, kinds=WRITING, **fault):
        """Let the calls from an event on fail, then run the command again without a disturbance."""
        self.world.start(self.case.stage)
        outcome, left = self._run(at=at, error=error, kinds=kinds, **fault)
        if not outcome.disturbed:
            return [], None
        event = outcome.events[at] if at < len(outcome.events) else outcome.events[-1]
        where = f"error {error} from event {at} on ({event.kind} {event.path}): "
        found = [where + each for each in self._torn(left.state)]
        if outcome.code == 0:  # pictures, sheets and measurements are optional, if that is said
            missing = self.reference.once.state.keys() - left.state.keys()
            if missing and "Warning: " not in outcome.stderr:
                found.append(where + f"ended well and in silence, without {sorted(missing)}")
            optional = all(name.endswith((".png", ".html")) for name in missing)
            return found + ([] if missing and optional else [where + each for each in self._next()]), event
        if outcome.traceback or outcome.code != 1 or len(outcome.errors) != 1:
            found.append(where + f"no single error: {outcome}")
        elif _NAMELESS.fullmatch(outcome.errors[0]):
            found.append(where + f"no file is named: {outcome.errors[0]}")
        names = [name for name in left.state.keys() - self.reference.before.keys() if is_leftover(name)]
        if not all(_is_wanted(name) for name in names):
            found.append(where + f"left {names}")
        return found + [where + each for each in self._next()], event

    def _torn(self, state):
        """Files in place that are neither as before nor as after."""
        references = (self.reference.before, *(each.state for each in self.reference.endings))
        return [
            f"{name} is neither as before nor as after: {content}"
            for name, content in state.items()
            if not is_leftover(name)
            and not (name.endswith("SHA256SUMS") and "not readable" not in content)  # lists what is complete
            and not (name.endswith("/ledger.jsonl") and _records_no_number(content))
            and content != "folder"
            and "/errors/" not in name  # messages of failed jobs, which the next run deletes
            and not any(is_leftover(part) for part in name.split("/"))
            and all(reference.get(name) != content for reference in references)
        ]

    def _next(self):
        """What is wrong after the next run, which must complete the work."""
        again, after = self._run()
        after = _with_evaluation_set_aside(again, after)
        if any(self._is_complete(after, each) for each in self.reference.endings):
            return []
        unlike = min((differences(after.state, each.state) for each in self.reference.endings), key=len)
        return [
            f"the next run ended with {again.code} and differs: {'; '.join(unlike)}\n{again.stderr[-1500:]}"
        ]

    def _is_complete(self, after, ending):
        """Return whether the state equals an expected one, without the files of `Case.leaves`."""
        left = self.case.leaves
        if not left or left not in after.state or ending.state.keys() == self.reference.once.state.keys():
            return after == ending
        prefix = f"{left}/"
        others = [
            {name: content for name, content in state.items() if not name.startswith(prefix)}
            for state in (after.state, ending.state)
        ]
        return after.code == ending.code and others[0] == others[1]

    def sample(self, count, kinds=None):
        """Indices of telling events: those that change names first, spread over the files."""
        events = self.reference.events
        wanted = [at for at, event in enumerate(events) if kinds is None or event.kind in kinds]
        seen = Counter()
        keys = {}
        for at in wanted:
            event = events[at]
            seen[event.kind] += 1
            keys[at] = (seen[event.kind], _WEIGHTS.get(event.kind, 5), at)
        return sorted(sorted(wanted, key=keys.get)[:count])


def _is_wanted(name):
    """Whether something unfinished holds committed work that the next run goes on from."""
    return name.endswith((".h5.partial", ".jsonl", ".lock")) or any(
        part in name for part in (".salvage", ".tuning", ".h5.part-")
    )


def _records_no_number(ledger):
    """Return whether the ledger is empty, or ends with half a line, which the next run sets aside."""
    return "not readable" in ledger or ledger.endswith(digest_of(b"[]"))


def _with_evaluation_set_aside(outcome, ending):
    """Return the ending without the half line of a ledger, if the command said that it set it aside."""
    aside = [name for name in ending.state if re.search(r"/ledger\.jsonl\.torn-\d+$", name)]
    if not aside or "was only half written" not in outcome.stderr:
        return ending
    return Ending(ending.code, {name: ending.state[name] for name in ending.state if name not in aside})
