"""The command line: every command's manners, and the main job from end to end."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest

from frostline import cli
from frostline.commands.interface.group import EXIT_CODES, CommandGroup
from frostline.errors import FrostlineError
from frostline.features.cache import FeatureCache
from tests.helpers.network import BACKBONE_OPTIONS
from tests.helpers.runner import CliRunner, run


def every_command(group=cli.main, path=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from every_command(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(every_command())


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
heavy = [name for name in ("torch", "numpy", "h5py", "sklearn", "frostline.features.backbones", "frostline.features.cache") if name in sys.modules]
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
    told = "Interrupted" if kind is KeyboardInterrupt else "Error: what went wrong\n  and what to do\n"
    assert told in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cache", "import", "missing.npy"], "missing.npy: No such file or directory; check the path"),
        (["cache", "import", "a/b.npy"], "because '{folder}/a' doesn't exist; check the path"),
        (["cache", "import", "file/v.npy"], "because '{folder}/file' is a file; name a place in a folder"),
        (["cache", "import", "v.npy", "--out", "file/v.h5"], "because '{folder}/file' is a file"),
        (["cache", "import", "v.npy", "--out", "folder"], "/folder: Is a directory; name a file"),
        (["cache", "export", "v.h5", "--to", "npz", "--out", "file/v.npz"], "file: Not a directory; name a"),
        (["cache", "export", "v.h5", "--to", "npy", "--out", "file/v"], "file: Not a directory; name a"),
    ],
)
def test_an_error_of_the_system_names_the_path_and_what_to_do(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    np.save("v.npy", np.eye(3, dtype=np.float32))
    FeatureCache.from_arrays("v.h5", np.eye(3), name="v")
    Path("file").write_text("")
    Path("folder").mkdir()
    told = run(*arguments, *(["--name", "v"] if arguments[1] == "import" else []), code=1).stderr
    assert message.format(folder=tmp_path.resolve()) in told
    assert "Errno" not in told


def test_a_long_message_is_shortened():
    @click.command()
    def fail():
        raise FrostlineError("begin" + "x" * 10**6 + "end")

    told = CliRunner().invoke(CommandGroup(commands={"fail": fail}), ["fail"]).stderr
    assert len(told) < 11_000
    assert told.startswith("Error: begin")
    assert told.endswith("end\n")


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


def test_main_job(ten_digits, tmp_path):
    cache, trained = tmp_path / "digits.h5", tmp_path / "run"
    first = json.loads(run("extract", ten_digits, *BACKBONE_OPTIONS, "--cache", cache, "--json").stdout)
    assert first["rows"] == first["computed"] == 120
    again = run("extract", ten_digits, *BACKBONE_OPTIONS, "--cache", cache)
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

    image = next((ten_digits / "3").iterdir())
    rows = list(csv.DictReader(io.StringIO(run("predict", trained, image, ten_digits / "4").stdout)))
    assert len(rows) == 13
    assert rows[0]["path"] == str(image)
    assert float(rows[0]["probability"]) == pytest.approx(float(rows[0]["probability_1"]))


def test_cache_info_and_verify(ten_cache, tmp_path):
    info = json.loads(run("cache", "info", ten_cache, "--json").stdout)
    assert info["rows"] == 120
    assert "all checksums are correct" in run("cache", "verify", ten_cache).stdout
    damaged = tmp_path / "damaged.h5"
    data = bytearray(ten_cache.read_bytes())
    features = FeatureCache.open(ten_cache).features()[7].tobytes()
    data[data.index(features)] ^= 1
    damaged.write_bytes(data)
    refused = run("cache", "verify", damaged, code=1)
    assert "damaged: " in refused.stdout
    assert "embedding: rows 0 to 119" in refused.stdout


def test_unknown_names_are_answered_with_near_matches(ten_digits, ten_cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "test_resnet" in run("extract", ten_digits, "--backbone", "timm:test_resnt", code=1).stderr
    assert "linear" in run("train-head", ten_cache, "--head", "liner", code=1).stderr
    assert "l2" in run("train-head", ten_cache, "--param", "l3=1", code=1).stderr
    for seed in ("-1", "4294967296"):
        assert "'--seed': " + seed in run("train-head", ten_cache, "--seed", seed, code=2).stderr
    assert "such as 2GB" in run("train-head", ten_cache, "--memory", "lots", code=2).stderr
    assert "use linear" in run("train-head", ten_cache, "--head", "svm", "--memory", "9kB", code=1).stderr


def test_backbones_lists_what_is_here():
    found = json.loads(run("backbones", "--json").stdout)
    assert "embedded:efficientnet_lite0" in [each["name"] for each in found]
    assert "Pass a name or pattern to list more" in run("backbones").stdout
