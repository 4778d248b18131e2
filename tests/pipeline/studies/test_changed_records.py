"""Records of runs with other values than any version writes: each reader uses them or refuses them, in one error.

The runs are those of one small study. They list no digests, as runs of earlier versions: their records are believed if
they can be read.
"""

import copy
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from frostline.classifiers import load_head
from frostline.errors import FrostlineError
from frostline.features.backbones import load_backbone
from frostline.files.checksums import SUMS_FILE
from frostline.pipeline import (
    compare,
    evaluate,
    extract,
    few_shot,
    finetune,
    learning_curve,
    load_run,
    predict,
    train_head,
    verify,
)
from frostline.pipeline.errors import RunError
from frostline.pipeline.options.learning.recipe import Recipe
from frostline.pipeline.progress import SILENT
from frostline.pipeline.runs.evaluation import read_evaluation
from frostline.pipeline.runs.predictions import TEST_FILE, Predictions
from frostline.pipeline.training.sample_sizes import read_learning_curve
from tests.helpers.listener import Listener
from tests.helpers.network import BACKBONE

MISSING = object()
VALUES = {
    "missing": MISSING,
    "null": None,
    "true": True,
    "text": "text",
    "empty text": "",
    "a long text": "x" * 100_000,
    "a lone surrogate": "\ud800",
    "a null character": "a\0b",
    "a relative path": "../../../../etc/passwd",
    "a fraction": 0.5,
    "a negative number": -1,
    "zero": 0,
    "a huge number": 10**40,
    "a large float": 1e308,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "an empty list": [],
    "an empty object": {},
    "a list of lists": [[[1]]],
    "a deep list": json.loads("[" * 100 + "]" * 100),
}


@dataclass
class Folders:
    """The runs of a study, and its images."""

    data: Path
    cache: Path
    linear: Path
    knn: Path
    tuned: Path
    curve: Path
    shots: Path


@pytest.fixture(scope="module")
def study(few_digits, tmp_path_factory):
    """Runs of each kind, evaluated."""
    folder = tmp_path_factory.mktemp("study")
    cache = folder / "c.h5"
    extract(few_digits, cache=cache, engine="eager", precision="fp32", device="cpu", **BACKBONE)
    found = Folders(
        few_digits,
        cache,
        train_head(cache, "linear", params={"l2": 0.1}, run=folder / "linear", project="pca:8").run,
        train_head(cache, "knn", params={"n_neighbors": 3}, run=folder / "knn").run,
        finetune(
            few_digits,
            **BACKBONE,
            run=folder / "tuned",
            recipe=Recipe(epochs=1, batch_size=16, augment="none"),
            device="cpu",
            workers=0,
        ).run,
        learning_curve(cache, "linear", points=4, draws=2, params={"l2": 0.1}, out=folder / "curve").folder,
        few_shot(cache, "linear", shots=(1,), episodes=2, params={"l2": 0.1}, out=folder / "shots").folder,
    )
    for run in (found.linear, found.knn, found.tuned):
        evaluate(run)
    for run in (found.linear, found.knn, found.tuned, found.curve, found.shots):
        (run / SUMS_FILE).unlink()
    return found


def leaves(value, path=()):
    """Paths of everything in a document, of lists the first entry alone."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from leaves(value[key], (*path, key))
    elif isinstance(value, list) and value:
        yield from leaves(value[0], (*path, 0))


def changed(document, path, value):
    """A copy with another value at a path, or without it."""
    if not path:
        return None if value is MISSING else value
    found = copy.deepcopy(document)
    place = found
    for key in path[:-1]:
        place = place[key]
    if value is MISSING:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return found


def read(function):
    """Call a reader; return whether it refused. Any other error than those of Frostline and the system fails the test."""
    try:
        function()
    except (FrostlineError, OSError) as error:
        said = str(error)
        assert said.strip()
        if len(said) > 5000:
            raise AssertionError(f"{len(said)} characters: {said[:200]}") from None
        assert not any(ord(character) < 32 and character != "\n" for character in said), ascii(said)[:300]
        return True
    return False


def try_each(folder, file, readers, tmp_path):
    """Write each value to each place of a record, and read it; return how many were refused and how many there were."""
    run = shutil.copytree(folder, tmp_path / folder.name)
    document = json.loads((run / file).read_text())
    counts = [0, 0]
    for path in leaves(document):
        for name, value in VALUES.items():
            (run / file).write_text(json.dumps(changed(document, path, value)))
            try:
                refused = any(read(lambda reader=reader: reader(run)) for reader in readers)
            except Exception as error:
                raise AssertionError(f"{file}, {path}: {name}") from error
            counts[0] += refused
            counts[1] += 1
    verify([run])  # the last value
    return counts


def used(run):
    """Everything that commands read of a run before they compute."""
    opened = load_run(run)
    _ = opened.split
    _ = opened.caches
    opened.head()
    compare([run])


@pytest.mark.parametrize("kind", ["linear", "tuned"])
@pytest.mark.long
def test_the_record_of_a_run(study, kind, tmp_path):
    refused, count = try_each(getattr(study, kind), "run.json", [used], tmp_path)
    assert refused > count / 2


@pytest.mark.parametrize("kind", ["linear", "knn", "tuned"])
def test_the_record_of_a_head(study, kind, tmp_path):
    refused, count = try_each(getattr(study, kind), "head.json", [load_head], tmp_path)
    assert refused > count / 2


def test_the_record_of_a_backbone(study, tmp_path):
    refused, count = try_each(
        study.tuned, "backbone.json", [lambda run: load_backbone(f"run:{run}")], tmp_path
    )
    assert refused > count / 2


def test_an_evaluation(study, tmp_path):
    refused, count = try_each(
        study.linear, "evaluation.json", [read_evaluation, lambda run: compare([run])], tmp_path
    )
    assert refused > count / 2


def test_the_ledger(study, tmp_path):
    run = shutil.copytree(study.linear, tmp_path / "run")
    entry = json.loads((run / "ledger.jsonl").read_text())
    for path in leaves(entry):
        for value in VALUES.values():
            (run / "ledger.jsonl").write_text(json.dumps(changed(entry, path, value)) + "\n")
            read(load_run(run).ledger.entries)


def test_a_learning_curve(study, tmp_path):
    refused, count = try_each(study.curve, "learning-curve.json", [read_learning_curve], tmp_path)
    assert refused > count / 4


PREDICTIONS = {
    "empty": b"",
    "a header alone": b"id,label,predicted,probability\n",
    "not UTF-8": b"\xff\xfe\n",
    "null characters": b"id,label,predicted,probability\n\0,a,a,1\n",
    "a truncated line": b"id,label,predicted,probability\n1.png,a,a,0.5\n2.png,a\n",
    "a line too long": b"id,label,predicted,probability\n1.png,a,a,0.5,9\n",
    "an open quote": b'id,label,predicted,probability\n"1.png,a,a,0.5\n',
    "a huge cell": b"id,label,predicted,probability\n" + b"1" * 200_000 + b",a,a,0.5\n",
    "NaN": b"id,label,predicted,probability\n1.png,a,a,nan\n",
    "too probable": b"id,label,predicted,probability\n1.png,a,a,1.5\n",
    "no number": b"id,label,predicted,probability\n1.png,a,a,x\n",
    "another column": b"id,label,guess,probability\n1.png,a,a,0.5\n",
}


@pytest.mark.parametrize("name", PREDICTIONS)
def test_predictions(study, name, tmp_path):
    run = shutil.copytree(study.linear, tmp_path / "run")
    for file in ("validation_predictions.csv", "test_predictions.csv"):
        (run / file).write_bytes(PREDICTIONS[name])
    if name != "a header alone":
        with pytest.raises(FrostlineError, match=r"validation_predictions\.csv"):
            Predictions.read(run / "validation_predictions.csv")
        with pytest.raises(FrostlineError, match=r"_predictions\.csv"):
            compare([run])
        assert verify([run]).wrong == 2
    else:
        assert Predictions.read(run / "validation_predictions.csv") is None


def test_what_is_accepted_of_a_record_is_of_use_to_the_commands(study, tmp_path):
    """The commands that compute, on the records that the readers accept; at one field in 40, as they take time."""
    run = shutil.copytree(study.linear, tmp_path / "run")
    document = json.loads((run / "run.json").read_text())
    image = next(study.data.rglob("*.png"))
    for number, path in enumerate(leaves(document)):
        for value in VALUES.values():
            if number % 40:
                continue
            (run / "run.json").write_text(json.dumps(changed(document, path, value)))
            if not read(lambda: load_run(run)):
                read(lambda: evaluate(run, report=SILENT))
                read(lambda: predict(run, [image], report=SILENT))


def test_predictions_that_lack_rows_are_refused_without_digests_too(study, tmp_path):
    run = shutil.copytree(study.linear, tmp_path / "linear")
    lines = (run / TEST_FILE).read_text().splitlines(keepends=True)
    (run / TEST_FILE).write_text("".join(lines[:-3]))
    report = Listener()
    (note,) = [note for note in compare([run, study.knn], report=report).notes if "Left out" in note]
    assert str(run) in note
    (warning,) = report.warnings
    assert "test_predictions.csv: got " in warning
    with pytest.raises(RunError, match=r"got .* and evaluation\.json describes .* Run evaluate again"):
        compare([run])
