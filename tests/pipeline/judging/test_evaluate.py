"""A run is evaluated on a cache that was computed in another way only under the contract."""

import json
import shutil

import pytest
from PIL import Image

from frostline.classifiers.errors import HeadFormatError
from frostline.features.cache import FeatureCache
from frostline.features.fidelity import Check, LayerCheck
from frostline.pipeline import evaluate, extract, predict, train_head
from frostline.pipeline.errors import RunError
from frostline.pipeline.runs.evaluation import read_evaluation
from frostline.pipeline.runs.run import load_run
from tests.helpers.caches import rewrite_check
from tests.helpers.listener import Listener
from tests.helpers.network import BACKBONE
from tests.helpers.runs import rewrite_record

pytestmark = pytest.mark.usefixtures("cpu")


def test_cache_from_another_kind_of_machine_fits(ten_digits, eager_run, tmp_path, other_machine):
    other_machine()
    there = extract(ten_digits, cache=tmp_path / "there.h5", **BACKBONE)
    assert (there.engine, there.precision) == ("eager", "bf16")
    assert FeatureCache.open(there.cache).spec.dtype == "float32"
    shutil.copytree(eager_run, tmp_path / "run")
    report = Listener()
    assert evaluate(tmp_path / "run", there.cache, report=report).rows > 0
    (note,) = report.notes
    assert "computed in another way (precision bf16 instead of fp32)" in note
    assert "cosine similarity" in note
    assert not report.warnings


def test_cache_with_only_test_images_is_evaluated(ten_digits, eager_run, tmp_path):
    shutil.copytree(eager_run, tmp_path / "run")
    for path in sorted(ten_digits.glob("*/*"))[::3]:
        # Other bytes of the same picture: those that were trained on are refused.
        target = tmp_path / "data" / "test" / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).resize((16, 16)).save(target)
    for folder in ten_digits.iterdir():  # the other classes' folders
        (tmp_path / "data" / "test" / folder.name).mkdir(exist_ok=True)
    cache = extract(tmp_path / "data", cache=tmp_path / "test.h5", **BACKBONE).cache
    assert evaluate(tmp_path / "run", cache).rows == len(list(tmp_path.glob("data/test/*/*")))


def test_missing_check_names_the_fitting_options(ten_digits, eager_run, tmp_path):
    poor = extract(ten_digits, cache=tmp_path / "c.h5", engine="eager", precision="bf16", **BACKBONE).cache
    file = FeatureCache.open(poor)
    worse = Check(file.check.images, {"embedding": LayerCheck(0.9, 0.95, 0.5)})
    rewrite_check(poor, worse)
    with pytest.raises(RunError, match=r"0\.900000.*\n.*--engine eager --precision fp32") as caught:
        evaluate(eager_run, poor)
    assert "bf16" in str(caught.value)
    assert not load_run(eager_run).ledger.entries()  # refused before the evaluation is recorded


def test_check_of_older_run_is_read_from_cache(ten_digits, tmp_path):
    done = extract(ten_digits, cache=tmp_path / "c.h5", engine="eager", precision="bf16", **BACKBONE)
    run = train_head(done.cache, "linear", params={"l2": 0.1}, run=tmp_path / "run").run
    reference = extract(
        ten_digits, cache=tmp_path / "d.h5", engine="eager", precision="fp32", device="cpu", **BACKBONE
    ).cache
    assert load_run(run).caches[0].check == done.check
    record = json.loads((run / "run.json").read_text())
    del record["caches"][0]["check"]
    rewrite_record(run, record)
    assert evaluate(run, reference).rows > 0
    done.cache.unlink()
    with pytest.raises(RunError, match="bf16 on cpu was not compared with eager fp32"):
        evaluate(run, reference)


def test_different_features_are_refused(ten_digits, eager_run, tmp_path):
    half = extract(
        ten_digits, cache=tmp_path / "c.h5", engine="eager", precision="fp32", store="float16", **BACKBONE
    )
    with pytest.raises(RunError, match="dtype: trained on 'float32', the cache has 'float16'"):
        evaluate(eager_run, half.cache)


@pytest.fixture
def run_copy(eager_run, tmp_path):
    """A run that was evaluated once, and the sizes of its files."""
    run = shutil.copytree(eager_run, tmp_path / "run")
    evaluate(run)
    return run


def test_failure_to_write_predictions_leaves_no_evaluation(eager_run, tmp_path):
    run = shutil.copytree(eager_run, tmp_path / "run")
    (run / "test_predictions.csv").mkdir()
    with pytest.raises(OSError, match="directory"):
        evaluate(run)
    assert not (run / "evaluation.json").exists()
    assert len(load_run(run).ledger.entries()) == 1  # a look is counted all the same


def test_failed_evaluation_keeps_the_earlier_one(run_copy, monkeypatch):
    before = {path.name: path.read_bytes() for path in run_copy.iterdir() if path.name != "ledger.jsonl"}

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("frostline.pipeline.runs.ledger.Ledger.record", lambda *_, **__: 2)
    monkeypatch.setattr("frostline.system.atomic.sync", full)
    with pytest.raises(OSError, match="No space left"):
        evaluate(run_copy)
    assert {
        path.name: path.read_bytes() for path in run_copy.iterdir() if path.name != "ledger.jsonl"
    } == before


def test_numbers_are_complete_before_anything_is_drawn(run_copy, monkeypatch):
    """An interruption there leaves an evaluation without pictures, and none of the earlier one."""
    assert (run_copy / "confusion.png").exists()

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("frostline.pipeline.judging.pictures.plot_confusion", interrupt)
    with pytest.raises(KeyboardInterrupt):
        evaluate(run_copy)
    assert json.loads((run_copy / "evaluation.json").read_text())["evaluation_number"] == 2
    assert not list(run_copy.glob("*.png"))
    assert not [path.name for path in run_copy.iterdir() if ".partial" in path.name]


def test_evaluation_sweeps_what_killed_processes_left(run_copy):
    before = sorted(path.name for path in run_copy.iterdir())
    for name in (".confusion.png.0123abcd.partial", ".evaluation.json.4711-1402.partial"):
        (run_copy / name).write_bytes(b"half")
    beside = run_copy.with_name(f".{run_copy.name}.search.0123456789abcdef.jsonl")
    beside.write_bytes(b"")
    evaluate(run_copy)
    assert sorted(path.name for path in run_copy.iterdir()) == before
    assert not beside.exists()


@pytest.mark.parametrize("kept", [0, 1])
def test_a_ledger_that_lost_entries_goes_on_from_the_latest_result(run_copy, kept):
    evaluate(run_copy)
    ledger = run_copy / "ledger.jsonl"
    ledger.write_bytes(b"".join(ledger.read_bytes().splitlines(True)[:kept]))
    report = Listener()
    assert evaluate(run_copy, report=report).evaluation_number == 3
    assert any("ledger.jsonl has lost entries" in text for text in report.warnings)


def test_a_ledger_never_gets_a_number_that_it_could_not_read(run_copy):
    document = json.loads((run_copy / "evaluation.json").read_text())
    rewrite_record(run_copy, document | {"evaluation_number": 2**53 - 1}, "evaluation.json")
    before = (run_copy / "ledger.jsonl").read_bytes()
    with pytest.raises(RunError, match="which no run reaches"):
        evaluate(run_copy)
    assert (run_copy / "ledger.jsonl").read_bytes() == before


def test_accuracies_beyond_one_are_refused(run_copy):
    document = json.loads((run_copy / "evaluation.json").read_text())
    document["metrics"]["top1"]["value"] = 50
    rewrite_record(run_copy, document, "evaluation.json")
    with pytest.raises(RunError, match="expected top1 to be 0 to 1"):
        read_evaluation(run_copy)


@pytest.mark.parametrize("use", [evaluate, lambda run: predict(run, [])], ids=["evaluate", "predict"])
def test_the_head_of_another_run_is_refused(run_copy, use):
    head = json.loads((run_copy / "head.json").read_text())
    rewrite_record(run_copy, head | {"classes": head["classes"][::-1]}, "head.json")
    with pytest.raises(RunError, match="has other classes than"):
        use(run_copy)


def test_a_head_of_another_kind_is_refused(run_copy):
    record = json.loads((run_copy / "run.json").read_text())
    rewrite_record(run_copy, {**record, "head": {**record["head"], "kind": "knn"}})
    with pytest.raises(RunError, match=r"describes a 'linear' head, and run\.json a 'knn' head"):
        evaluate(run_copy)


def test_an_evaluation_that_cannot_be_saved_is_not_recorded(run_copy, monkeypatch):
    before = {path.name: path.read_bytes() for path in run_copy.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("frostline.system.atomic.allocate", full)
    with pytest.raises(OSError, match=r"No space left on device: .*evaluation\.json"):
        evaluate(run_copy)
    assert {path.name: path.read_bytes() for path in run_copy.iterdir()} == before


def test_a_head_without_finite_scores_is_refused(run_copy):
    head = json.loads((run_copy / "head.json").read_text())
    rewrite_record(run_copy, head | {"temperature": 1e-320}, "head.json")
    with pytest.raises(HeadFormatError, match="not finite numbers"):
        load_run(run_copy).head()
