"""Ways to damage a file, and what a command may then do: name the file, or give the result of the whole one."""

import json
import re
from dataclasses import dataclass
from itertools import pairwise

from tests.faults.harness.folders import differences, state_of
from tests.faults.harness.trials import Command

PAGE = 4096


def flips(data, count):
    """Offsets of `count` bytes to flip, spread evenly; all if there are no more."""
    return list(range(len(data))) if len(data) <= count else [len(data) * i // count for i in range(count)]


def flipped(data, offset):
    """The data with one bit of a byte changed; which one depends on the place."""
    return data[:offset] + bytes([data[offset] ^ (1 << (offset * 5 % 8))]) + data[offset + 1 :]


def structural(data):
    """Damage of the whole file by name: truncation, swapped pages, junk, zeros."""
    size = len(data)
    made = {f"cut to {kept} bytes": data[:kept] for kept in sorted({0, 1, size // 3, size // 2, size - 1})}
    made["junk appended"] = data + b"\x00junk{\xff"
    made["a zero page appended"] = data + bytes(PAGE)
    made["doubled"] = data + data
    made["zeros"] = bytes(size)
    pages = [data[start : start + PAGE] for start in range(0, size, PAGE)]
    whole = [number for number, page in enumerate(pages) if len(page) == PAGE]
    for first, second in pairwise(whole):
        if pages[first] != pages[second]:
            swapped = list(pages)
            swapped[first], swapped[second] = pages[second], pages[first]
            made[f"pages {first} and {second} swapped"] = b"".join(swapped)
    return {name: content for name, content in made.items() if content != data}


@dataclass(frozen=True)
class Read:
    """A file and a command that reads it.

    Attributes:
        stage: Stage of the world.
        file: Path of the file.
        arguments: The command.
        finds: Whether the command must find any damage: it verifies, and nothing else.
        checked: Whether the file has checksums. Without them, damage may be other content, such as another name of an
            image, and then only the end of the command counts: success, or one line.
    """

    stage: str
    file: str
    arguments: tuple[str, ...]
    finds: bool = False
    checked: bool = True

    def __str__(self):
        return f"{self.file} through {' '.join(self.arguments[:2])}"


class Reading:
    """A command on a whole file, to compare it with the same on damaged ones."""

    def __init__(self, world, read):
        self.world, self.read = world, read
        world.start(read.stage)
        self.path = world.root / read.file
        self.data = self.path.read_bytes()
        self._run()
        world.start(read.stage)
        self.outcome, self.result = self._run()

    def _run(self):
        (outcome,) = self.world.server.run_all([Command(self.read.arguments)])
        state = state_of(self.world.root)
        state.pop(self.read.file, None)
        sums = self.path.with_name("SHA256SUMS")
        if sums != self.path and sums.exists():  # lists the whole file, so it is not that of the folder
            state[sums.relative_to(self.world.root).as_posix()] = _listed(sums)
        return outcome, {"standard output": _result(outcome), **state}

    def problem(self, name, content):
        """Describe how the command mishandled the damaged file; empty if it did not."""
        self.world.start(self.read.stage)
        self.path.write_bytes(content)
        outcome, result = self._run()
        if outcome.traceback or outcome.hung:
            return f"{name}: {outcome}"
        warned = any(
            line.startswith("Warning: ") and self.path.name in line for line in outcome.stderr.splitlines()
        )
        if outcome.code == self.outcome.code and not self.read.finds:
            if warned or not self.read.checked:
                return ""
            unlike = differences(result, self.result)
            return f"{name}: changed in silence: {'; '.join(unlike)}" if unlike else ""
        if outcome.code != 1 or len(outcome.errors) != 1:
            return f"{name}: no single error: {outcome}"
        if not self.read.checked:
            return ""
        names = (
            self.path.name,
            self.path.parent.name if self.path.parent != self.world.root else self.path.name,
        )
        text = outcome.stderr + outcome.stdout
        return "" if any(each in text for each in names) else f"{name}: the file is not named: {outcome}"


def _listed(sums):
    return [line.partition("  ")[2] for line in sums.read_text().splitlines()]


def _without_times(value):
    if isinstance(value, dict):
        return {key: _without_times(each) for key, each in value.items() if key not in {"seconds", "bytes"}}
    return [_without_times(each) for each in value] if isinstance(value, list) else value


def _result(outcome):
    """Standard output, without how long it took and how large the damaged file is."""
    if outcome.arguments[0] == "extract":
        return ""  # says how much of the damaged file was computed again; the result is the cache
    if outcome.arguments[0] == "compare":
        return outcome.stdout
    try:
        return json.dumps(_without_times(json.loads(outcome.stdout)))
    except ValueError:
        return re.sub(r"\bin \d+\.\d s$", "", outcome.stdout, flags=re.MULTILINE)
