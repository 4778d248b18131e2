"""A batch: every combination once, only what is missing, and a failure stops only what needs it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from frostline.features import FeatureCache
from frostline.pipeline import batch, compare, plan_batch, train_head
from frostline.pipeline.runs.run import load_run
from tests.helpers.network import EXTRACT_TABLE
from tests.helpers.runner import run

HEADS = '[batch]\ndata = "{data}"\nout = "{out}"\n' + EXTRACT_TABLE
TUNE = """
[[finetune]]
backbone = "timm:test_resnet"
image-size = 32
from-scratch = true
recipe = { epochs = 1, augment = "none" }
search = "list"
"""


def states(result, stage=None):
    return [job.state for job in result.jobs if stage in {None, job.stage}]


def test_every_combination_runs_exactly_once(write_study):
    path = write_study()
    first = batch(path)
    assert states(first) == ["done"] * (2 + 2 * 2 * 2)
    assert {job.stage for job in first.jobs} == {"extract", "train-head"}
    assert not first.unfinished
    written = {file: file.stat().st_mtime_ns for file in first.out.rglob("*") if file.is_file()}
    second = batch(path)
    assert states(second) == ["exists"] * 10
    assert {file: file.stat().st_mtime_ns for file in first.out.rglob("*") if file.is_file()} == written
    assert len(compare(first.runs).places) == 8


def test_batch_run_equals_that_of_the_single_command(write_study, tmp_path):
    result = batch(
        write_study(
            HEADS,
            '[[train-head]]\nhead = "mlp"\nparam = {hidden = [8], epochs = 2, lr = 0.01, weight_decay = 0.1}',
        )
    )
    (run,) = result.runs
    (cache,) = (job.path for job in result.jobs if job.stage == "extract")
    params = {"hidden": (8,), "epochs": 2, "lr": 0.01, "weight_decay": 0.1}
    alone = train_head(cache, "mlp", params=params, layer="embedding", run=tmp_path / "alone").run
    files = sorted(file.name for file in alone.iterdir() if file.suffix in {".safetensors", ".csv"})
    assert len(files) >= 3
    assert all((run / name).read_bytes() == (alone / name).read_bytes() for name in files)


def test_complete_study_imports_no_heavy_modules(write_study):
    path = write_study(HEADS, '[[train-head]]\nhead = "knn"')
    batch(path)
    script = "import sys; from frostline import pipeline; pipeline.batch(sys.argv[1]); assert not {'timm', 'torchvision'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script, path], check=True)


def test_options_of_extract_make_another_cache(write_study):
    (plain,) = (job.path for job in batch(write_study(HEADS)).jobs)
    exact = 'engine = "eager"\nprecision = "fp32"\nstore = "float16"\nviews = 2\nbatch-size = 7\n'
    (cache,) = (job.path for job in batch(write_study(HEADS + exact)).jobs)
    assert cache != plain
    spec = FeatureCache.open(cache).spec
    assert (spec.precision, spec.dtype, spec.views) == ("fp32", "float16", 2)


def test_more_unreadable_images_are_accepted_without_another_extraction(write_study, tmp_path, digits):
    data = shutil.copytree(digits, tmp_path / "own")
    for file in list((data / "0").iterdir())[:20]:
        file.write_bytes(b"no image")
    failed = batch(write_study(HEADS, data=data))
    (job,) = failed.jobs
    assert "is more than the allowed 1.0%" in job.error
    written = job.path.stat().st_mtime_ns
    head = '[[train-head]]\nhead = "knn"'
    accepted = batch(write_study(HEADS + "max-bad = 0.2\n", head, data=data))
    assert states(accepted) == ["done", "done"]
    assert accepted.jobs[0].path == job.path
    assert job.path.stat().st_mtime_ns == written


def test_only_added_jobs_are_run(write_study):
    batch(write_study(HEADS, '[[train-head]]\nhead = "knn"'))
    result = batch(write_study(HEADS, '[[train-head]]\nhead = ["knn", "ridge"]'))
    assert [(job.stage, job.state) for job in result.jobs] == [
        ("extract", "done"),  # looked over, since a head reads it
        ("train-head", "exists"),
        ("train-head", "done"),
    ]


def test_changed_parameter_gives_another_run(write_study):
    first = batch(write_study(HEADS, '[[train-head]]\nhead = "knn"\nparam = { n_neighbors = 3 }'))
    second = batch(write_study(HEADS, '[[train-head]]\nhead = "knn"\nparam = { n_neighbors = 5 }'))
    assert set(first.runs).isdisjoint(second.runs)


def test_new_images_are_extracted_and_all_heads_retrained(write_study, digits, tmp_path):
    data = shutil.copytree(digits, tmp_path / "own")
    moved = data / "0" / "new.png"
    path = write_study(HEADS, '[[train-head]]\nhead = "knn"', data=data)
    first = batch(path)
    shutil.copy(next((data / "1").iterdir()), moved)
    with moved.open("ab") as file:
        file.write(b"\0")  # other bytes than its twin's, and the same picture
    second = batch(path)
    (cache,) = (job.path for job in second.jobs if job.stage == "extract")
    assert FeatureCache.open(cache).rows == 121
    assert states(second) == ["done", "done"]
    assert set(first.runs).isdisjoint(second.runs)


def test_failure_skips_only_dependent_jobs(write_study, tmp_path):
    (tmp_path / "broken.pt").write_bytes(b"no weights")
    added = f'[[extract]]\nbackbone = "timm:test_vit"\nweights = "{tmp_path}/broken.pt"\n[[train-head]]\nhead = ["knn", "sklearn.svm:NuSVC"]\nparam = {{}}'
    path = write_study(HEADS, added)
    ran = run("batch", path, code=1)
    result = batch(path)
    assert states(result, "extract") == ["exists", "failed"]
    assert sorted(states(result, "train-head")) == ["exists", "exists", "skipped", "skipped"]
    (failed,) = (job for job in result.jobs if job.state == "failed")
    assert (
        "expected a safetensors or torch file, got a text"
        in (result.errors / f"{failed.name}.txt").read_text()
    )
    assert "WeightsError" in (result.errors / f"{failed.name}.txt").read_text()
    assert "3 of 6 jobs are not done" in ran.stderr


def test_error_file_is_removed_after_success(write_study, tmp_path, digits):
    data = shutil.copytree(digits, tmp_path / "own")
    for file in list((data / "0").iterdir())[:20]:
        file.write_bytes(b"no image")
    path = write_study(HEADS, '[[train-head]]\nhead = "knn"', data=data)
    failed = batch(path)
    assert states(failed) == ["failed", "skipped"]
    assert list(failed.errors.iterdir())
    for file in (digits / "0").iterdir():
        shutil.copy(file, data / "0" / file.name)
    mended = batch(path)
    assert states(mended) == ["done", "done"]
    assert not mended.errors.exists()
    mended.errors.mkdir()
    (mended.errors / f"{mended.jobs[0].name}.txt").write_text("left by a batch that was killed after the job")
    assert states(batch(path)) == ["exists", "exists"]
    assert not mended.errors.exists()


def test_best_candidate_decides_the_recipe(write_study):
    path = write_study(
        '[batch]\ndata = "{data}"\nout = "{out}"\nseeds = [3, 4]\n',
        TUNE + "values = [{ lr = 1e-9 }, { lr = 0.05 }]",
    )
    result = batch(path)
    candidates = [load_run(job.path).record for job in result.jobs if job.stage == "search"]
    scores = [record.metrics.validation for record in candidates]
    order = [(each.accuracy, -each.log_loss) for each in scores]
    best = candidates[order.index(max(order))].finetune.recipe.lr
    finals = [load_run(run).record.finetune.recipe for run in result.runs]
    assert order[0] != order[1]
    assert [(recipe.lr, recipe.seed) for recipe in finals] == [(best, 3), (best, 4)]
    shutil.rmtree(result.out / "search")
    assert states(batch(path), "search") == ["exists", "exists"] or not batch(path).unfinished


def test_diverged_candidate_is_not_chosen(write_study):
    path = write_study(
        '[batch]\ndata = "{data}"\nout = "{out}"\n',
        TUNE + "values = [{ lr = 1e30, warmup = 0 }, { lr = 0.05 }]",
    )
    result = batch(path)
    assert sorted(states(result, "search")) == ["done", "failed"]
    assert states(result, "finetune") == ["done"]
    assert not result.unfinished
    assert load_run(result.runs[0]).record.finetune.recipe.lr == 0.05
    assert set(states(batch(path))) == {"exists"}


def test_activations_are_cached_once_for_all_seeds(write_study, tmp_path):
    tune = '[[finetune]]\nbackbone = "timm:test_resnet"\nweights = "random:1"\nimage-size = 32\n'
    recipe = 'recipe = { frost-line = "layer3", epochs = 1, augment = "none" }\n'
    path = write_study('[batch]\ndata = "{data}"\nout = "{out}"\nseeds = [0, 1]\n', tune + recipe)
    result = batch(path)
    assert states(result) == ["done", "done"]
    (cache,) = (tmp_path / "out" / "activations").iterdir()
    assert {load_run(run).record.finetune.cache for run in result.runs} == {str(cache)}


@pytest.mark.parametrize("lost", [["confusion.png", "mistakes.png"], ["mistakes.png"], []], ids=len)
def test_pictures_of_an_interrupted_evaluation_are_drawn(write_study, lost):
    path = write_study(
        HEADS.replace("[[extract]]", "evaluate = true\n[[extract]]"),
        '[[train-head]]\nhead = "mlp"\nparam = {hidden = [8], epochs = 1, lr = 0.001, weight_decay = 0.1}',
    )
    (run,) = batch(path).runs
    whole = {file.name: file.read_bytes() for file in run.iterdir()}
    sums = run / "SHA256SUMS"
    sums.write_text("".join(line for line in sums.read_text().splitlines(True) if "mistakes.png" not in line))
    for name in lost:
        (run / name).unlink()
    assert states(batch(path)) == ["exists"] * 2
    assert {file.name: file.read_bytes() for file in run.iterdir()} == whole


def test_evaluate_scores_each_run_once(write_study):
    study = HEADS.replace("[[extract]]", "evaluate = true\n[[extract]]")
    path = write_study(study, '[[train-head]]\nhead = "knn"')
    (run,) = batch(path).runs
    assert len(load_run(run).ledger.entries()) == 1
    batch(path)
    assert len(load_run(run).ledger.entries()) == 1
    (run / "evaluation.json").unlink()  # as if killed between training and evaluation
    assert states(batch(path), "train-head") == ["done"]
    assert len(load_run(run).ledger.entries()) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda run: (run / "evaluation.json").write_bytes(b""),
        lambda run: (run / "evaluation.json").write_bytes((run / "evaluation.json").read_bytes()[:200]),
        lambda run: (run / "test_predictions.csv").unlink(),
    ],
    ids=["empty", "half", "without predictions"],
)
def test_torn_evaluation_is_made_again(write_study, damage):
    study = HEADS.replace("[[extract]]", "evaluate = true\n[[extract]]")
    path = write_study(study, '[[train-head]]\nhead = "knn"')
    (run,) = batch(path).runs
    files = {file.name: file.read_bytes() for file in run.iterdir() if "ledger" not in file.name}
    damage(run)
    assert states(batch(path), "train-head") == ["done"]
    for name in (
        "evaluation.json",
        "SHA256SUMS",
    ):  # the number of the evaluation, and the digest of that file
        del files[name]
    assert {name: (run / name).read_bytes() for name in files} == files
    assert load_run(run).ledger.entries()[-1].evaluation_number == 2
    assert states(batch(path), "train-head") == ["exists"]


def test_damaged_run_is_named(write_study):
    path = write_study(HEADS, '[[train-head]]\nhead = "knn"')
    (run,) = batch(path).runs
    (run / "run.json").write_bytes(b"")
    result = batch(path)
    assert states(result, "train-head") == ["failed"]
    assert str(run / "run.json") in result.unfinished[0].error


def test_leftovers_are_swept_even_if_nothing_is_to_do(write_study):
    path = write_study(HEADS, '[[train-head]]\nhead = "knn"')
    result = batch(path)
    (run,) = result.runs
    before = sorted(result.out.rglob("*"))
    for name in (
        ".{}.lock",
        ".{}.0123abcd.partial",
        ".{}.search.0123456789abcdef.jsonl",
        ".{}.0123456789abcdef.jsonl",
    ):
        run.with_name(name.format(run.name)).write_bytes(b"")
    left = run.with_name(f".{run.name}.tuning")
    left.mkdir()
    (left / "best.safetensors").write_bytes(b"")
    (run / ".curve.png.0123abcd.partial").write_bytes(b"")
    (result.out / ".lock").write_bytes(b"")
    result.errors.mkdir(exist_ok=True)
    (result.errors / ".job.txt.0123abcd.partial").write_bytes(b"")
    assert states(batch(path)) == ["exists", "exists"]
    assert sorted(result.out.rglob("*")) == before


@pytest.mark.real_processor
def test_killed_batch_resumes_with_the_same_result(write_study, tmp_path):
    path = write_study(HEADS, '[[train-head]]\nhead = ["linear", "knn", "lda", "ridge"]')
    whole = batch(path)
    shutil.move(whole.out, tmp_path / "whole")
    command = [sys.executable, "-m", "frostline", "batch", str(path), "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None and not list(whole.out.glob("runs/*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = len(list(whole.out.glob("runs/*")))
    assert 0 < finished < 4
    result = batch(path)
    assert not result.unfinished
    for made in result.runs:
        for name in ("split.safetensors", "validation_predictions.csv"):
            assert (made / name).read_bytes() == (tmp_path / "whole" / "runs" / made.name / name).read_bytes()
    for cache in result.out.glob("caches/*.h5"):
        kept = FeatureCache.open(tmp_path / "whole" / "caches" / cache.name)
        np.testing.assert_array_equal(FeatureCache.open(cache).features(), kept.features())


@pytest.mark.long
def test_killed_process_fails_only_its_own_job(write_study, tmp_path, monkeypatch):
    (tmp_path / "deadly.py").write_text(
        "import os\nfrom sklearn.naive_bayes import GaussianNB\n"
        "class Deadly(GaussianNB):\n    def fit(self, X, y):\n        os._exit(1)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    path = write_study(HEADS, '[[train-head]]\nhead = ["knn", "deadly:Deadly"]')
    result = batch(path, jobs=2, trusted=["deadly"])
    assert {job.name.split("-")[-3]: job.state for job in result.jobs if job.stage == "train-head"} == {
        "knn": "done",
        "Deadly": "failed",
    }
    (failed,) = (job for job in result.jobs if job.state == "failed")
    assert failed.error.startswith("its process was killed")
    assert "--jobs" in failed.error


def test_second_batch_on_the_same_study_is_refused(write_study, tmp_path):
    from frostline.pipeline.studies.batch import _locked

    path = write_study(HEADS)
    with _locked(tmp_path / "out"):
        ran = run("batch", path, code=1)
    assert "another batch is writing to this folder" in ran.stderr


def test_jobs_that_another_batch_completes_meanwhile_are_not_run(write_study, monkeypatch):
    from frostline.pipeline.studies import batch as module

    path, locked = write_study(HEADS), module._locked

    def after_another_batch(out):
        monkeypatch.setattr(module, "_locked", locked)
        assert set(states(batch(path))) == {"done"}
        return locked(out)

    monkeypatch.setattr(module, "_locked", after_another_batch)
    assert set(states(batch(path))) == {"exists"}


def test_dry_run_estimates_missing_jobs_and_writes_nothing(write_study, tmp_path):
    path = write_study(HEADS, '[[train-head]]\nhead = "knn"' + TUNE + "values = [{ lr = 0.01 }]")
    plan = plan_batch(path)
    assert not (tmp_path / "out").exists()
    assert {job.stage for job in plan.jobs if job.estimate} == {"extract", "train-head", "search", "finetune"}
    assert all(each.seconds > 0 and each.memory > 1e7 and each.disk > 0 for each in plan.estimates)
    batch(path)
    caches = {job.path: job.estimate.disk for job in plan.jobs if job.stage == "extract"}
    for cache, expected in caches.items():
        assert cache.stat().st_size < 1e5  # of which there is little beyond the layout of so small a file
        assert expected < cache.stat().st_size
    ran = run("batch", path, "--dry-run", "--json")
    done = json.loads(ran.stdout)
    assert all(job["exists"] and job["estimate"] is None for job in done["jobs"])


@pytest.mark.parametrize("option", [("--jobs", "0"), ("--resume",)])
def test_unknown_option_is_refused(write_study, option):
    run("batch", write_study(), *option, code=2)
