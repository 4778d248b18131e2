"""The name of a run: claimed before the work, for one process; what a killed process left goes."""

import json
import subprocess
import sys

import pytest

from frostline.pipeline import train_head
from frostline.pipeline.errors import RunError
from frostline.pipeline.progress import SILENT
from frostline.pipeline.runs import directory
from frostline.pipeline.runs.directory import claim_run, sweep_runs, update_run, write_run
from frostline.system.atomic import replace_file
from frostline.system.locks import FileLock
from tests.helpers.listener import Listener

TRAIN = [sys.executable, "-m", "frostline", "train-head", "--head", "linear", "--json"]


def names(folder):
    return sorted(each.name for each in folder.iterdir())


@pytest.fixture
def default(tmp_path):
    return tmp_path / "runs" / "c-linear"


def test_default_name_is_the_first_that_is_free(default):
    (default.parent / "c-linear-2").mkdir(parents=True)
    found = []
    for _ in range(2):
        with claim_run(None, default, SILENT) as path, write_run(path) as folder:
            replace_file(folder / "file", b"")
        found.append(path.name)
    assert found == ["c-linear", "c-linear-3"]
    assert names(default.parent) == ["c-linear", "c-linear-2", "c-linear-3"]


def test_second_process_takes_the_next_default_name_and_says_so(default):
    report = Listener()
    with claim_run(None, default, report) as first, claim_run(None, default, report) as second:
        assert (first.name, second.name) == ("c-linear", "c-linear-2")
        assert names(default.parent) == [".c-linear-2.lock", ".c-linear.lock"]
    (note,) = report.notes
    assert note.startswith(f"{first}: process ")
    assert note.endswith(f"is writing it, so this one writes {second}.")
    assert names(default.parent) == []


def test_given_name_is_refused_while_another_process_writes_it(default):
    with (
        claim_run(default, default, SILENT),
        pytest.raises(RunError, match=r"c-linear: process \d+ is writing it"),
        claim_run(default, default, SILENT),
    ):
        pass
    with claim_run(default, default, SILENT) as path:
        assert path == default


@pytest.mark.parametrize("given", [True, False])
def test_name_that_another_process_finished_in_between_is_not_taken(default, monkeypatch, given):
    real = directory._claim

    def claim(path, claims):
        if path == default:
            path.mkdir(parents=True)  # after the first check, before the lock
        real(path, claims)

    monkeypatch.setattr(directory, "_claim", claim)
    if given:
        with pytest.raises(RunError, match="exists already"), claim_run(default, default, SILENT):
            pass
    else:
        with claim_run(None, default, SILENT) as path:
            assert path.name == "c-linear-2"
    assert names(default.parent) == ["c-linear"]


def test_two_trainings_with_the_default_name_both_end(eager_run, tmp_path):
    cache = eager_run.parent / "c.h5"
    running = [
        subprocess.Popen([*TRAIN, str(cache)], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    ended = [each.communicate() for each in running]
    assert [each.returncode for each in running] == [0, 0], [error.decode() for _, error in ended]
    runs = sorted(json.loads(out)["run"] for out, _ in ended)
    assert runs == ["runs/c-linear", "runs/c-linear-2"]
    assert names(tmp_path / "runs") == ["c-linear", "c-linear-2"]


def test_second_training_of_a_given_name_is_refused_before_its_work(eager_run, tmp_path):
    cache, run = eager_run.parent / "c.h5", tmp_path / "run"
    with claim_run(run, run, SILENT):
        done = subprocess.run(
            [*TRAIN, str(cache), "--run", str(run)], capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    assert "is writing it. Wait until it is done" in " ".join(done.stderr.split())
    assert "Training" not in done.stderr
    assert names(tmp_path) == []


def test_run_appears_with_its_record_or_not_at_all(eager_run, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("frostline.pipeline.training.train_head.save_record", fail)
    with pytest.raises(OSError, match="No space left"):
        train_head(eager_run.parent / "c.h5", "knn", run=tmp_path / "runs" / "run")
    assert names(tmp_path / "runs") == []


def test_working_files_of_a_finished_run_are_swept_and_those_of_others_kept(tmp_path):
    run = tmp_path / "run"
    with write_run(run) as folder:
        replace_file(folder / "run.json", b"")
    left = [
        ".run.lock",
        ".run.search.0123456789abcdef.jsonl",
        ".run.0123456789abcdef.jsonl",
        ".run.a1b2c3d4.partial",
    ]
    kept = [".run2.search.0123456789abcdef.jsonl", ".run.json", ".running.tuning", ".run.b.lock", "run.lock"]
    for name in [*left, *kept]:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / ".run.tuning").mkdir()
    (tmp_path / ".run.tuning" / "images.npz").write_bytes(b"")
    (run / ".search.png.0123abcd.partial").write_bytes(b"")
    sweep_runs([run, tmp_path / "run2"])
    assert names(tmp_path) == sorted([*kept, "run"])
    assert names(run) == ["SHA256SUMS", "run.json"]


def test_working_files_of_a_run_that_is_being_finished_are_kept(tmp_path):
    run = tmp_path / "run"
    with claim_run(run, run, SILENT):
        with write_run(run):
            pass
        (tmp_path / ".run.tuning").mkdir()
        sweep_runs([run])
        assert names(tmp_path) == [".run.lock", ".run.tuning", "run"]


def test_run_is_updated_by_one_process_at_a_time(tmp_path, monkeypatch):
    with write_run(tmp_path / "run") as folder:
        replace_file(folder / "picture", b"")
    taken = []
    real = directory.replace_files

    def look(*args, **options):
        with pytest.raises(Exception, match="has locked it"):
            FileLock.acquire(tmp_path / "run", folder=True)
        taken.append(1)
        real(*args, **options)

    monkeypatch.setattr(directory, "replace_files", look)
    update_run(tmp_path / "run", {"a": b"1", "b": b"2"}, outdated=["picture"])
    assert taken
    assert names(tmp_path / "run") == ["SHA256SUMS", "a", "b"]
