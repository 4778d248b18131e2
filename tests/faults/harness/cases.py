"""Commands that write, each with the state that it starts from."""

import re
from dataclasses import dataclass

from tests.faults.harness.world import EXTRACT, EXTRACTION, TUNE


@dataclass(frozen=True)
class Case:
    """A command in a state.

    Attributes:
        name: Name of the case.
        stage: Stage of the world that it starts from.
        arguments: Command line.
        patches: Functions that are called in the child before the command.
        long: Whether it takes too long for the tests that always run.
    """

    name: str
    stage: str
    arguments: tuple[str, ...]
    patches: tuple[str, ...] = ()
    long: bool = False


CASES = (
    Case("extract", "empty", EXTRACTION),
    Case("extract resumed", "interrupted", EXTRACTION),
    Case("extract with images added", "cache", ("extract", "../more", "--cache", "d.h5", *EXTRACT)),
    Case("extract with images changed", "changed", ("extract", "images", "--cache", "d.h5", *EXTRACT)),
    Case(
        "extract with images added to an interrupted one",
        "interrupted",
        ("extract", "../more", "--cache", "d.h5", *EXTRACT),
    ),
    Case("extract --overwrite", "cache", (*EXTRACTION, "--store", "float16", "--overwrite")),
    Case("extract --part", "empty", (*EXTRACTION, "--part", "1/2")),
    Case("cache merge", "parts", ("cache", "merge", "d.h5.part-1-of-2", "d.h5.part-2-of-2", "--quiet")),
    Case(
        "cache merge --delete-parts",
        "parts",
        ("cache", "merge", "d.h5.part-1-of-2", "d.h5.part-2-of-2", "--delete-parts", "--quiet"),
    ),
    Case("cache check --out", "cache", ("cache", "check", "d.h5", "--threshold", "0.5", "--out", "found")),
    Case("train-head", "cache", ("train-head", "d.h5", "--run", "run", "--quiet")),
    Case("train-head with the default name", "cache", ("train-head", "d.h5", "--head", "ridge", "--quiet")),
    Case(
        "train-head --search",
        "cache",
        (
            "train-head",
            "d.h5",
            "--head",
            "ridge",
            "--search",
            "random",
            "--trials",
            "4",
            "--run",
            "run",
            "--quiet",
        ),
    ),
    Case(
        "few-shot",
        "cache",
        (
            *("few-shot", "d.h5", "--head", "centroid", "--shots", "1", "--episodes", "3"),
            *("--out", "shots", "--quiet"),
        ),
    ),
    Case(
        "learning-curve",
        "cache",
        (
            *("learning-curve", "d.h5", "--head", "centroid", "--points", "2", "--draws", "2"),
            *("--out", "curve", "--quiet"),
        ),
    ),
    Case("evaluate", "run", ("evaluate", "run", "--quiet")),
    Case("evaluate again", "evaluated", ("evaluate", "run", "--quiet")),
    Case("evaluate a fine-tuned run", "tuned", ("evaluate", "tuned", "--quiet"), long=True),
    Case("finetune", "empty", ("finetune", "../data", *TUNE), long=True),
    Case(
        "finetune on cached activations",
        "empty",
        ("finetune", "../data", *TUNE, "--augment", "none", "--frost-line", "layer1"),
        long=True,
    ),
    Case(
        "label-errors",
        "mislabelled",
        ("label-errors", "d.h5", "--head", "logreg", "--folds", "2", "--out", "doubtful"),
    ),
    Case("report", "two runs", ("report", "run", "other", "--out", "report.html", "--quiet")),
    Case("batch", "study", ("batch", "study.toml", "--quiet"), long=True),
    Case(
        "demo", "empty", ("demo", "--quiet"), patches=("tests.faults.harness.patches:small_demo",), long=True
    ),
)

READERS = (
    Case("predict", "run", ("predict", "run", "../data/class0", "--quiet", "--engine", "eager")),
    Case("compare", "two runs", ("compare", "run", "other")),
    Case("rank", "cache", ("rank", "d.h5")),
    Case("cache info", "cache", ("cache", "info", "d.h5")),
    Case("cache verify", "cache", ("cache", "verify", "d.h5")),
    Case("cache check", "cache", ("cache", "check", "d.h5")),
)
"""Commands that write nothing."""


@dataclass(frozen=True)
class Known:
    """A moment at which a kill is not made good by the next run. A test shows each, and fails when it is mended.

    Attributes:
        case: Name of the case.
        kind: Kind of the event after which the moment begins.
        path: Pattern of the event's path.
        reason: What goes wrong.
    """

    case: str
    kind: str
    path: str
    reason: str

    def holds(self, events, at):
        """Whether an event comes after the named one and before any event of another file."""
        begin = [
            index for index in range(at) if events[index].kind == self.kind and self._is_named(events[index])
        ]
        return bool(begin) and all(_MOMENT.search(event.path) for event in events[begin[-1] + 1 : at + 1])

    def first(self, events):
        """Index of the first event of the moment."""
        return next(at for at in range(len(events)) if self.holds(events, at))

    def _is_named(self, event):
        return re.fullmatch(self.path, event.path) is not None


_MOMENT = re.compile(r"\.png|SHA256SUMS|\.part-2-of-2$|\.[0-9a-f]{16}\.jsonl$|^(/[\w-]+(\.[\w-]+)*){0,3}$")
_PICTURE = "a run that is in place without its picture keeps lacking it: the picture is drawn after the run is complete"

KNOWN = (
    Known(
        "cache merge --delete-parts",
        "unlink",
        r"/d\.h5\.part-1-of-2",
        "a merge that was killed between the deletions of its parts can't be repeated",
    ),
    *(Known(name, "rename", r"/run", _PICTURE) for name in ("train-head", "train-head --search")),
    Known("train-head with the default name", "rename", r"/runs/d-ridge", _PICTURE),
    Known("few-shot", "rename", "/shots", _PICTURE),
    Known("learning-curve", "rename", "/curve", _PICTURE),
    *(Known(name, "rename", "/tuned", _PICTURE) for name in ("finetune", "finetune on cached activations")),
    Known("batch", "rename", r"/study/runs/[^/]+", _PICTURE),
    Known("demo", "rename", r"/frostline-demo/digits-linear", _PICTURE),
)


def known_at(case, events, at):
    """Whether the next run is known not to recover from a kill at an event."""
    return any(each.case == case.name and each.holds(events, at) for each in KNOWN)
