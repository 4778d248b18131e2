"""The command line: every command's manners, and the main job from end to end."""

import csv
import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import pytest
from runner import CliRunner

from frostline import cli
from frostline.commands.group import EXIT_CODES, CommandGroup
from frostline.features.cache import FeatureCache
from frostline.pipeline.demo import write_digits
from frostline.splits import Split

BACKBONE = ("--backbone", "timm:test_resnet", "--weights", "random")


def every_command(group=cli.main, path=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from every_command(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(every_command())


def run(*arguments, code=0):
    result = CliRunner().invoke(cli.main, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A hundred real digits, ten of each."""
    whole = tmp_path_factory.mktemp("whole")
    write_digits(whole)
    folder = tmp_path_factory.mktemp("digits")
    for group in sorted(whole.iterdir()):
        (folder / group.name).mkdir()
        for path in sorted(group.iterdir())[:12]:
            (folder / group.name / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture(scope="module")
def cache(digits, tmp_path_factory):
    path = tmp_path_factory.mktemp("cache") / "digits.h5"
    run("extract", digits, *BACKBONE, "--cache", path, "--quiet")
    return path


@pytest.fixture(scope="module")
def trained(cache, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "linear"
    run("train-head", cache, "--run", path, "--quiet")
    return path


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_shows_help_with_an_example_and_the_output_options(path):
    text = run(*path, "--help").output
    assert "Example:\n" in text
    assert f"frostline {' '.join(path)}" in text
    for option in ("--json", "--quiet"):
        assert option in text
    assert all(parameter.help for parameter in COMMANDS[path].params if isinstance(parameter, click.Option))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_a_wrong_option_is_a_usage_error(path):
    run(*path, "--no-such-option", code=2)


def test_help_imports_neither_libraries_nor_stages():
    script = f"""
import sys
from frostline import cli
for path in {[(), *COMMANDS]!r}:
    try: cli.main([*path, "--help"])
    except SystemExit: pass
heavy = [name for name in ("torch", "numpy", "h5py", "sklearn", "frostline.features") if name in sys.modules]
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_a_command_is_imported_when_it_is_needed():
    script = """
import sys
from frostline import cli
try: cli.main(["rank", "--help"])
except SystemExit: pass
assert "frostline.commands.backbones" in sys.modules
assert "frostline.commands.train" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_an_unknown_command_is_a_usage_error():
    assert "No such command 'extrac'" in run("extrac", code=2).stderr


@pytest.mark.parametrize("kind", EXIT_CODES)
def test_an_expected_error_becomes_a_message_and_its_exit_code(kind):
    error = kind("what went wrong")
    error.add_note("and what to do")

    @click.command()
    def fail():
        raise error

    result = CliRunner().invoke(CommandGroup(commands={"fail": fail}), ["fail"])
    assert result.exit_code == EXIT_CODES[kind]
    told = "Interrupted" if kind is KeyboardInterrupt else "Error: what went wrong\nand what to do\n"
    assert told in result.stderr


def test_an_unexpected_error_is_not_hidden():
    @click.command()
    def fail():
        raise ZeroDivisionError

    result = CliRunner().invoke(CommandGroup(commands={"fail": fail}), ["fail"])
    assert isinstance(result.exception, ZeroDivisionError)


def test_files_named_like_ours_do_not_hide_ours(tmp_path):
    for name in ("features", "pipeline", "classifiers", "cli"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    done = subprocess.run(
        [sys.executable, "-m", "frostline", "cache", "info", "absent.h5"],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert "absent.h5" in done.stderr


def test_main_job(digits, tmp_path):
    cache, trained = tmp_path / "digits.h5", tmp_path / "run"
    first = json.loads(run("extract", digits, *BACKBONE, "--cache", cache, "--json").stdout)
    assert first["rows"] == first["computed"] == 120
    again = run("extract", digits, *BACKBONE, "--cache", cache)
    assert "No image was decoded" in again.stdout

    training = json.loads(run("train-head", cache, "--run", trained, "--memory", "9kB", "--json").stdout)
    assert sum(training["counts"].values()) == 120
    assert training["trials"]
    for name in ("run.json", "head.safetensors", "curve.csv", "curve.png", "split.safetensors"):
        assert (trained / name).stat().st_size > 0

    evaluation = json.loads(run("evaluate", trained, "--json").stdout)
    top1 = evaluation["metrics"]["top1"]
    assert 0 <= top1["low"] <= top1["value"] <= top1["high"] <= 1
    assert evaluation["evaluation_number"] == 1
    written = json.loads((trained / "evaluation.json").read_text())["calibration"]
    assert written["after"]["rms_calibration_error"] == evaluation["metrics"]["rms_calibration_error"]
    assert sum(written["before"]["counts"]) == evaluation["rows"]
    assert (trained / "reliability.png").stat().st_size > 0
    second = run("evaluate", trained)
    assert "on the test split 2 times" in second.stderr
    assert len((trained / "ledger.jsonl").read_text().splitlines()) == 2

    image = next((digits / "3").iterdir())
    rows = list(csv.DictReader(io.StringIO(run("predict", trained, image, digits / "4").stdout)))
    assert len(rows) == 13
    assert rows[0]["path"] == str(image)
    assert float(rows[0]["probability"]) == pytest.approx(float(rows[0]["probability_1"]))


def test_predict_agrees_with_the_cache_and_the_head(digits, cache, trained):
    from frostline.classifiers.saving.head_files import load_head

    data = FeatureCache.open(cache)
    expected = load_head(trained).predict_proba(data.features())
    predictions = json.loads(run("predict", trained, digits, "--top-k", 10, "--format", "json").stdout)
    assert [Path(p["path"]).relative_to(digits).as_posix() for p in predictions] == list(data.ids)
    for row, prediction in zip(expected, predictions, strict=True):
        assert dict(prediction["top"]) == pytest.approx(dict(zip(data.classes, row, strict=True)), abs=1e-4)


def test_an_unreadable_image_is_reported_and_shifts_nothing(digits, tmp_path):
    data = tmp_path / "data"
    for path in sorted(digits.glob("*/*")):
        (data / path.parent.name).mkdir(parents=True, exist_ok=True)
        (data / path.parent.name / path.name).write_bytes(path.read_bytes())
    bad = sorted(data.glob("*/*"))[5]
    bad.write_bytes(b"not an image")
    arguments = ("extract", data, *BACKBONE, "--cache", tmp_path / "c.h5")
    refused = run(*arguments, "--max-bad", "0.001", code=1)
    assert bad.name in refused.stderr
    assert "--max-bad" in refused.stderr
    kept = run(*arguments, "--max-bad", "0.5")
    assert bad.name in kept.stdout
    cache = FeatureCache.open(tmp_path / "c.h5")
    assert np.flatnonzero(~cache.ok).tolist() == [5]
    assert np.isnan(cache.features()[5]).all()
    assert np.isfinite(cache.features()[cache.ok]).all()


def test_a_cache_of_other_settings_is_refused_by_field(digits, cache):
    refused = run("extract", digits, *BACKBONE, "--layer", "layer3:avg", "--cache", cache, code=1)
    assert "layers" in refused.stderr
    assert "--overwrite" in refused.stderr


def test_a_limited_extraction_never_replaces_a_larger_cache(digits, cache, tmp_path):
    before = cache.read_bytes()
    refused = run("extract", digits, *BACKBONE, "--cache", cache, "--limit", "20", code=1)
    assert "--overwrite" in refused.stderr
    assert cache.read_bytes() == before
    few = tmp_path / "few.h5"
    run("extract", digits, *BACKBONE, "--cache", few, "--limit", "20")
    labels = FeatureCache.open(few).labels
    assert len(labels) == 20
    assert set(labels.tolist()) == set(range(10))


def test_a_cache_of_another_decoder_is_another_cache(digits, cache):
    refused = run("extract", digits, *BACKBONE, "--decoder", "fast", "--cache", cache, code=1)
    assert "decoder: " in refused.stderr
    assert "resized by torch" in refused.stderr


def test_sigterm_leaves_a_cache_that_the_next_run_finishes(digits, tmp_path):
    cache = tmp_path / "c.h5"
    data = tmp_path / "many"
    for copy in range(3):
        for path in digits.glob("*/*"):
            target = data / path.parent.name / f"{copy}-{path.name}"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    command = [sys.executable, "-m", "frostline", "extract", str(data), *BACKBONE, "--cache", str(cache)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    partial = cache.with_name("c.h5.partial")
    while process.poll() is None and not partial.exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    if process.returncode:  # a quick machine may have finished before the signal came
        assert process.returncode == 1
        assert b"Interrupted" in errors
        assert not cache.exists()
    run(*command[3:])
    whole = tmp_path / "whole.h5"
    run("extract", data, *BACKBONE, "--cache", whole)
    one, other = FeatureCache.open(cache), FeatureCache.open(whole)
    assert (one.ids == other.ids).all()
    assert one.features().tobytes() == other.features().tobytes()


def test_cache_info_and_verify(cache, tmp_path):
    info = json.loads(run("cache", "info", cache, "--json").stdout)
    assert info["rows"] == 120
    assert "all checksums are correct" in run("cache", "verify", cache).stdout
    damaged = tmp_path / "damaged.h5"
    data = bytearray(cache.read_bytes())
    features = FeatureCache.open(cache).features()[7].tobytes()
    data[data.index(features)] ^= 1
    damaged.write_bytes(data)
    refused = run("cache", "verify", damaged, code=1)
    assert "embedding" in refused.stderr


def test_unknown_names_are_answered_with_near_matches(digits, cache):
    assert "test_resnet" in run("extract", digits, "--backbone", "timm:test_resnt", code=1).stderr
    assert "linear" in run("train-head", cache, "--head", "liner", code=1).stderr
    assert "l2" in run("train-head", cache, "--param", "l3=1", code=1).stderr
    for seed in ("-1", "4294967296"):
        assert "'--seed': " + seed in run("train-head", cache, "--seed", seed, code=2).stderr
    assert "such as 2GB" in run("train-head", cache, "--memory", "lots", code=2).stderr
    assert "use linear" in run("train-head", cache, "--head", "svm", "--memory", "9kB", code=1).stderr


def test_backbones_lists_what_is_here():
    found = json.loads(run("backbones", "--json").stdout)
    assert "embedded:efficientnet_lite0" in [each["name"] for each in found]
    assert "Pass a name or pattern to list more" in run("backbones").stdout


def test_a_run_is_never_overwritten(cache, trained):
    before = (trained / "run.json").read_bytes()
    assert "never overwritten" in run("train-head", cache, "--run", trained, code=1).stderr
    assert (trained / "run.json").read_bytes() == before


def test_a_search_is_told_drawn_and_kept(cache, tmp_path):
    trained = tmp_path / "searched"
    arguments = ("train-head", cache, "--head", "ridge", "--search", "random", "--trials", "3", "--cv", "3")
    told = run(*arguments, "--run", trained)
    assert "The best 3 of 3 trials" in told.stdout
    record = json.loads((trained / "run.json").read_text())
    with (trained / "search.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["alpha"]) for row in rows] == [trial["alpha"] for trial in record["trials"]]
    assert record["head"]["params"]["alpha"] in [trial["alpha"] for trial in record["trials"]]
    assert (trained / "search.png").stat().st_size > 0
    assert list(tmp_path.iterdir()) == [trained]  # the journal is gone
    assert "add --search or --cv" in run("train-head", cache, "--trials", "3", code=2).stderr


def test_a_search_reads_train_and_val_rows_alone(cache, tmp_path, monkeypatch):
    from frostline.classifiers.fitting.search import SearchPlan
    from frostline.pipeline import split_rows
    from frostline.pipeline import train_head as train

    data = FeatureCache.open(cache)
    split, _ = split_rows(data)
    features = data.features().copy()
    features[split == Split.TEST] = np.nan  # whoever reads them fails
    monkeypatch.setattr(FeatureCache, "features", lambda *_args, **_options: features)
    done = train(data, "ridge", search=SearchPlan("grid"), cv=3, run=tmp_path / "run")
    assert done.validation["accuracy"] > 0


class TestSampleSizes:
    """few-shot and learning-curve: tables, plots and JSON, from train and val rows alone."""

    @pytest.mark.parametrize(
        ("command", "options"),
        [
            ("few-shot", ("--shots", 1, "--shots", 3, "--episodes", 4)),
            ("learning-curve", ("--points", 3, "--draws", 2)),
        ],
    )
    def test_what_is_told_is_written_and_no_folder_is_overwritten(self, command, options, cache, tmp_path):
        arguments = (command, cache, "--head", "ridge", *options, "--out", tmp_path / "found")
        told = json.loads(run(*arguments, "--json", "--quiet").stdout)
        written = json.loads((tmp_path / "found" / f"{command}.json").read_text())
        assert {name: value for name, value in told.items() if name != "folder"}.items() <= written.items()
        assert written["split"]["counts"]["val"] == told["rows"] > 0
        assert sorted(path.name for path in tmp_path.iterdir()) == ["found"]  # and no journal
        assert {path.suffix for path in (tmp_path / "found").iterdir()} == {".json", ".csv", ".png"}
        assert "a run is never overwritten" in run(*arguments, code=1).stderr

    def test_tables_are_printed_and_a_wrong_layer_is_refused(self, cache, tmp_path):
        out = ("--out", tmp_path / "found")
        shown = run("few-shot", cache, "--head", "centroid", "--shots", 2, "--episodes", 3, *out).output
        assert "95% interval over episodes" in shown
        assert "holds no layer" in run("learning-curve", cache, "--layer", "nowhere", code=1).stderr


def test_views_are_extracted_side_by_side_and_resumed_by_bytes(digits, tmp_path):
    path, again = tmp_path / "views.h5", tmp_path / "again.h5"
    run("extract", digits, *BACKBONE, "--cache", path, "--views", 3, "--seed", 5, "--quiet")
    cache = FeatureCache.open(path)
    assert (cache.spec.views, cache.spec.seed) == (3, 5)
    run(
        "extract",
        digits,
        *BACKBONE,
        "--cache",
        again,
        "--views",
        3,
        "--seed",
        5,
        "--batch-size",
        4,
        "--quiet",
    )
    for view in range(3):
        assert np.allclose(cache.features(view=view), FeatureCache.open(again).features(view=view), atol=1e-4)
    plain = tmp_path / "plain.h5"
    run("extract", digits, *BACKBONE, "--cache", plain, "--quiet")
    assert np.allclose(cache.features(), FeatureCache.open(plain).features(), atol=1e-4)
    assert not np.allclose(cache.features(view=1), cache.features(view=2), atol=1e-2)
    refused = run("extract", digits, *BACKBONE, "--cache", path, "--views", 2, "--quiet", code=1)
    assert "views" in refused.stderr


def test_a_batch_holds_all_views_of_an_image(digits, tmp_path):
    path = tmp_path / "views.h5"
    options = ("extract", digits, *BACKBONE, "--cache", path, "--limit", 4, "--views", 33, "--quiet")
    refused = run(*options, "--batch-size", 32, code=1)
    assert "batch size 32; expected at least 33; a batch must hold the 33 views of an image" in refused.stderr
    run(*options)
    assert FeatureCache.open(path).spec.views == 33
