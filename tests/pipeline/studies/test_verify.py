"""What `verify` finds in runs, caches and folders of both."""

import json
import os
import shutil
from importlib.util import find_spec

import pytest

from frostline.classifiers.saving.rejection_file import load_rejection
from frostline.errors import FrostlineError
from frostline.files.checksums import SUMS_FILE, list_files, read_sums
from frostline.pipeline import (
    batch,
    compare,
    evaluate,
    extract,
    load_run,
    plan_batch,
    predict,
    train_head,
    verify,
)
from frostline.pipeline.errors import RunError
from frostline.pipeline.runs.evaluation import read_evaluation
from frostline.pipeline.studies.html_report import write_report
from tests.helpers.network import BACKBONE
from tests.helpers.paths import DATA


@pytest.fixture(scope="module")
def original(few_digits, tmp_path_factory):
    """A folder with a cache and an evaluated run on it."""
    folder = tmp_path_factory.mktemp("study")
    extract(few_digits, cache=folder / "c.h5", engine="eager", precision="fp32", device="cpu", **BACKBONE)
    evaluate(train_head(folder / "c.h5", "linear", params={"l2": 0.1}, run=folder / "runs" / "a").run)
    return folder


@pytest.fixture
def run(original, tmp_path):
    return shutil.copytree(original / "runs" / "a", tmp_path / "a")


def states(found):
    return {each.path.name: each.state for each in found.files}


LISTED = {
    "confusion.png",
    "evaluation.json",
    "head.json",
    "head.safetensors",
    "rejection.safetensors",
    "reliability.png",
    "run.json",
    "split.safetensors",
    "test_predictions.csv",
    "validation_predictions.csv",
}


def test_a_run_lists_its_files_and_a_second_evaluation_renews_the_list(run):
    before = read_sums(run, RunError)
    assert before.keys() >= LISTED
    assert before.keys() == {each.name for each in run.iterdir()} - {SUMS_FILE, "ledger.jsonl"}
    assert verify([run]).wrong == 0
    evaluate(run)
    after = read_sums(run, RunError)
    assert after["evaluation.json"] != before["evaluation.json"]
    assert after["run.json"] == before["run.json"]
    assert verify([run]).wrong == 0


def test_a_folder_is_searched_for_runs_and_caches(original):
    found = verify([original])
    assert found.wrong == 0
    assert {each.path.name for each in found.files} >= LISTED | {"c.h5", "ledger.jsonl"}
    assert {each.state for each in found.files} == {"ok"}


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", sorted(LISTED))
def test_one_flipped_bit_is_found_and_refused_where_it_is_read(run, name):
    flip(run / name)
    found = verify([run])
    assert states(found)[name] == "damaged"
    assert next(each.detail for each in found.files if each.path.name == name).startswith(
        "was changed: its SHA-256 is"
    )
    if name.endswith(".png"):
        return
    with pytest.raises(FrostlineError, match=f"(?s){name} .*(was changed|does not match)") as refused:
        use(run)
    assert str(refused.value).count("Restore the file") <= 1  # and not the error of an error


def use(run):
    """Read everything of a run that commands read."""
    opened = load_run(run)
    _ = opened.split
    opened.head()
    load_rejection(run)
    read_evaluation(run)
    board = compare([run])
    for split in ("validation", "test"):
        board.places[0].summary.predictions(split)


@pytest.mark.parametrize("name", sorted({name for name in LISTED if not name.endswith(".png")}))
def test_a_truncated_file_is_found(run, name):
    os.truncate(run / name, (run / name).stat().st_size // 2)
    assert states(verify([run]))[name] == "damaged"


def test_changes_of_numbers_are_refused_by_the_commands(run, original, tmp_path):
    """Changes that leave the file well-formed: they changed predictions, comparisons and the guard against leaks."""
    head = json.loads((run / "head.json").read_text())
    first, second, *others = head["classes"]
    (run / "head.json").write_text(
        json.dumps({**head, "classes": [second, first, *others], "temperature": 1.04})
    )
    for command in (evaluate, lambda path: predict(path, [original])):
        with pytest.raises(FrostlineError, match=r"head\.json was changed"):
            command(run)
    lines = (run / "test_predictions.csv").read_text().splitlines(keepends=True)
    (run / "test_predictions.csv").write_text("".join(lines[:-1]))
    other = shutil.copytree(original / "runs" / "a", tmp_path / "other")
    commands = [compare]
    if find_spec("plotly"):
        commands.append(lambda runs: write_report(runs, out=tmp_path / "report.html"))
    for command in commands:
        with pytest.raises(FrostlineError, match=r"test_predictions\.csv was changed"):
            command([run])
    assert f"Left out, because a file of the run is damaged: {run}." in compare([run, other]).notes


def test_an_interrupted_evaluation_is_told_and_repeated(run):
    sums = read_sums(run, RunError)
    kept = {
        name: digest
        for name, digest in sums.items()
        if name not in {"evaluation.json", "test_predictions.csv"}
    }
    lines = (run / SUMS_FILE).read_text().splitlines(keepends=True)
    (run / SUMS_FILE).write_text("".join(line for line in lines if line.split()[1] in kept))
    found = verify([run])
    assert {name for name, state in states(found).items() if state == "unlisted"} == sums.keys() - kept.keys()
    assert found.wrong == 2
    assert read_evaluation(run) is None
    board = compare([run])
    assert board.split == "validation"
    assert any(
        "was interrupted, and its result is unknown. Run evaluate again" in note for note in board.notes
    )
    assert evaluate(run).evaluation_number == 2
    assert verify([run]).wrong == 0


def test_files_that_are_missing_or_added_are_told_apart(run):
    (run / "validation_predictions.csv").unlink()
    (run / "notes.txt").write_text("mine")
    found = verify([run])
    assert (states(found)["validation_predictions.csv"], states(found)["notes.txt"]) == (
        "missing",
        "unchecked",
    )
    assert found.wrong == 1


def test_the_ledger_has_every_number_and_the_evaluation(run):
    evaluate(run)
    lines = (run / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (run / "ledger.jsonl").write_bytes(lines[1])
    assert (
        "evaluation 1 is missing"
        in {each.path.name: each.detail for each in verify([run]).files}["ledger.jsonl"]
    )
    (run / "ledger.jsonl").write_bytes(lines[0])
    assert states(verify([run]))["evaluation.json"] == "damaged"
    (run / "ledger.jsonl").unlink()
    assert states(verify([run]))["evaluation.json"] == "damaged"


def test_a_damaged_list_and_a_lost_record_are_named(run):
    (run / "run.json").unlink()
    assert states(verify([run]))["run.json"] == "missing"
    (run / SUMS_FILE).write_text("nonsense")
    assert states(verify([run])) == {SUMS_FILE: "damaged"}
    with pytest.raises(RunError, match="SHA256SUMS is not a list of checksums: line 1"):
        load_run(run)


def test_runs_of_earlier_versions_are_read_and_said_to_have_no_digests():
    found = verify([DATA / "archives"])
    assert found.wrong == 0
    assert {each.state for each in found.files if each.path.name == "run.json"} == {"unchecked"}
    assert {each.state for each in found.files if each.path.suffix in {".h5", ".safetensors", ".skops"}} >= {
        "ok"
    }


def test_a_run_of_an_earlier_version_has_no_list_after_an_evaluation(tmp_path):
    archive = DATA / "archives" / "runs" / "v3"
    run = shutil.copytree(archive / "linear", tmp_path / "linear")
    evaluate(run, archive / "cache.h5")
    assert not (run / SUMS_FILE).exists()
    assert verify([run]).wrong == 0
    flip(run / "head.safetensors")
    assert states(verify([run]))["head.safetensors"] == "damaged"


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="holds neither a run nor a cache"):
        verify([tmp_path])
    with pytest.raises(OSError, match="No such file"):
        verify([tmp_path / "none"])
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="symbolic links"):
        verify([tmp_path / "loop"])
    (tmp_path / "x.h5").write_bytes(b"no cache")
    assert states(verify([tmp_path])) == {"x.h5": "damaged"}


def test_a_folder_that_cannot_be_read_does_not_end_the_search(original, tmp_path, monkeypatch):
    shutil.copytree(original, tmp_path / "study")
    closed = tmp_path / "study" / "runs"
    listdir = os.listdir

    def refuse(path="."):
        if os.fspath(path) == str(closed):
            raise PermissionError(13, "Permission denied", str(closed))
        return listdir(path)

    monkeypatch.setattr("os.listdir", refuse)
    found = verify([tmp_path])
    assert states(found) == {"c.h5": "ok", "runs": "damaged"}
    assert found.files[-1].detail == f"can't be read: [Errno 13] Permission denied: '{closed}'"


def test_predictions_of_another_evaluation_are_found_in_runs_without_digests(run):
    (run / SUMS_FILE).unlink()
    assert states(verify([run]))["test_predictions.csv"] == "unchecked"
    lines = (run / "test_predictions.csv").read_bytes().splitlines(keepends=True)
    (run / "test_predictions.csv").write_bytes(b"".join(lines[:-1]))
    found = verify([run])
    assert states(found)["test_predictions.csv"] == "damaged"
    (damage,) = (each.detail for each in found.files if each.is_wrong)
    assert f"got {len(lines) - 2} images" in damage


def test_changed_digests_do_not_hide_a_record_that_cannot_be_read(run):
    document = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**document, "seed": "none"}))
    list_files(run, besides=["ledger.jsonl"])
    assert states(verify([run]))["run.json"] == "damaged"


def test_a_study_is_verified_and_an_interrupted_evaluation_is_done_by_the_next_batch(write_study, tmp_path):
    study = (
        write_study()
        .read_text()
        .replace('backbone = ["timm:test_resnet", "timm:test_vit"]', 'backbone = "timm:test_resnet"')
    )
    file = tmp_path / "study.toml"
    file.write_text(study.replace("seeds = [0, 1]", "evaluate = true").replace('"linear", "knn"', '"linear"'))
    batch(file)
    assert verify([tmp_path / "out"]).wrong == 0
    (run,) = {path.parent for path in (tmp_path / "out").rglob("run.json")}
    lines = (run / SUMS_FILE).read_text().splitlines(keepends=True)
    (run / SUMS_FILE).write_text("".join(line for line in lines if "evaluation.json" not in line))
    assert [job.stage for job in plan_batch(file).jobs if not job.exists] == ["train-head"]
    batch(file)
    assert verify([tmp_path / "out"]).wrong == 0
    assert all(job.exists for job in plan_batch(file).jobs)
