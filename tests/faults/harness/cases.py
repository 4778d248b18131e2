"""Commands that write, each with the state that it starts from."""

from dataclasses import dataclass

import pytest

from frostline.pipeline.exporting.exporters import EXPORTERS
from tests.faults.harness.world import EXPORT, EXTRACT, EXTRACTION, IMPORT, TUNE
from tests.helpers.needs import needs, needs_pyarrow, needs_remote


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
        spare: Begin of the paths of files that nothing depends on, which are not compared: those of a byte cache, whose
            reader checks them, and which a full disk leaves out without a word.
        needs: Mark that skips the case where an extra is not installed.
    """

    name: str
    stage: str
    arguments: tuple[str, ...]
    patches: tuple[str, ...] = ()
    long: bool = False
    evaluates: str = ""
    leaves: str = ""
    spare: str = ""
    needs: pytest.MarkDecorator | None = None

    @property
    def command(self):
        """Name of the command, such as ``cache export``."""
        return command_of(self.arguments)


def command_of(arguments):
    """Name of the command of a command line."""
    return " ".join(arguments[: 2 if arguments[0] == "cache" else 1])


def parameters(cases):
    """Parameters of a test, which is skipped for the cases whose extra is not installed."""
    return [pytest.param(case, id=case.name, marks=[case.needs] if case.needs else []) for case in cases]


def _extraction(name, stage, source, **more):
    return Case(f"extract {name}", stage, ("extract", source, "--cache", "d.h5", *EXTRACT), **more)


def _export(name):
    extra = EXPORTERS.entries[name].extra
    return Case(
        f"cache export --to {name}",
        "cache",
        (*EXPORT, "--to", name),
        long=name not in {"anndata", "faiss"},  # a file, and a folder
        needs=needs(extra, here=not EXPORTERS.missing(name)) if extra else None,
    )


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
    _extraction("a manifest with side columns", "manifest", "m.csv"),
    _extraction("an archive", "archive", "s.tar", long=True),
    _extraction("arrays", "arrays", "s.npz", long=True),
    _extraction("a table", "table", "s.parquet", long=True, needs=needs_pyarrow),
    Case(
        "extract from a web server",
        "web",
        ("extract", "w.csv", "--cache", "d.h5", "--byte-cache", "bytes", *EXTRACT),
        long=True,
        spare="bytes",
        needs=needs_remote,
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
    *map(_export, sorted(EXPORTERS.builtin, key=lambda name: EXPORTERS.entries[name].extra)),
    Case(
        "cache export --overwrite of a file",
        "exported",
        (*EXPORT, "--to", "safetensors", "--overwrite"),
        long=True,
    ),
    Case(
        "cache export --overwrite of a folder",
        "exported to a folder",
        (*EXPORT, "--to", "npy", "--overwrite"),
    ),
    Case(
        "search",
        "cache",
        (
            *("search", "d.h5", "../more/class0/17.png", "-k", "3"),
            *("--engine", "eager", "--out", "near", "--quiet"),
        ),
    ),
    Case("dedupe", "mislabelled", ("dedupe", "d.h5", "--out", "copies", "--quiet")),
    Case("outliers", "cache", ("outliers", "d.h5", "--top", "2", "--out", "odd", "--quiet")),
    Case("clusters", "cache", ("clusters", "d.h5", "--count", "3", "--out", "groups", "--quiet")),
    Case(
        "suggest",
        "partly labelled",
        ("suggest", "d.h5", "--run", "run", "-n", "4", "--out", "next", "--quiet"),
    ),
    Case("map", "two runs", ("map", "d.h5", "--run", "run", "--out", "map", "--quiet")),
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
        "train-head --with-columns",
        "side columns",
        ("train-head", "d.h5", "--with-columns", "age,camera", "--run", "run", "--quiet"),
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
    Case(
        "predict --reject",
        "run",
        ("predict", "run", "../data/class0", "--reject", "0.5", "--quiet", "--engine", "eager"),
    ),
    Case(
        "predict with side columns", "column run", ("predict", "run", "m.csv", "--quiet", "--engine", "eager")
    ),
    Case("verify", "two runs", ("verify", "run", "d.h5")),
    Case("backbones", "empty", ("backbones",)),
    Case("compare", "two runs", ("compare", "run", "other")),
    Case("rank", "cache", ("rank", "d.h5")),
    Case("cache info", "cache", ("cache", "info", "d.h5")),
    Case("cache verify", "cache", ("cache", "verify", "d.h5")),
    Case("cache check", "cache", ("cache", "check", "d.h5")),
)
"""Commands that write nothing."""
