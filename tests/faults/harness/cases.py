"""Commands that write, each with the state that it starts from."""

from dataclasses import dataclass

from tests.faults.harness.world import EXTRACT, EXTRACTION, IMPORT, TUNE


@dataclass(frozen=True)
class Case:
    """A command in a state.

    Attributes:
        name: Name of the case.
        stage: Stage of the world that it starts from.
        arguments: Command line.
        patches: Functions that are called in the child before the command.
        long: Whether it takes too long for the tests that always run.
        evaluates: Pattern of the paths of the runs that it evaluates besides its other work. A kill after an evaluation
            was recorded lets the next run repeat that one under the next number.
        leaves: Path of a run that the next run of the command does not complete, because it makes a new one.
    """

    name: str
    stage: str
    arguments: tuple[str, ...]
    patches: tuple[str, ...] = ()
    long: bool = False
    evaluates: str = ""
    leaves: str = ""


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
    Case("cache import", "vectors", IMPORT),
    Case(
        "cache import of a table",
        "vectors",
        ("cache", "import", "v.csv", "--name", "t", "--out", "t.h5", "--quiet"),
    ),
    Case("cache import resumed", "interrupted import", IMPORT),
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
    Case("batch", "study", ("batch", "study.toml", "--quiet"), long=True, evaluates="study/runs/*"),
    Case(
        "demo",
        "empty",
        ("demo", "--quiet"),
        patches=("tests.faults.harness.patches:small_demo",),
        long=True,
        leaves="frostline-demo/digits-linear",
    ),
)

READERS = (
    Case("predict", "run", ("predict", "run", "../data/class0", "--quiet", "--engine", "eager")),
    Case("predict --cache", "imported", ("predict", "run", "--cache", "i.h5", "--quiet")),
    Case("compare", "two runs", ("compare", "run", "other")),
    Case("rank", "cache", ("rank", "d.h5")),
    Case("cache info", "cache", ("cache", "info", "d.h5")),
    Case("cache verify", "cache", ("cache", "verify", "d.h5")),
    Case("cache check", "cache", ("cache", "check", "d.h5")),
)
"""Commands that write nothing."""
