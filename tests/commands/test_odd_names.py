"""Files and folders whose names are not UTF-8: no command fails on them, and none changes their bytes."""

import contextlib
import csv
import io
import json
import os
import shutil
import subprocess
import sys

import pytest

from frostline import cli
from frostline.pipeline import FinetuneError, finetune
from tests.helpers.needs import needs_plotly
from tests.helpers.network import BACKBONE
from tests.helpers.paths import ROOT
from tests.helpers.runner import CliRunner

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs a file system that takes any name")

OPTIONS = (
    "--backbone",
    "timm:test_resnet",
    "--weights",
    "random:1",
    "--engine",
    "eager",
    "--precision",
    "fp32",
)


@pytest.fixture(scope="module")
def folder(ten_digits, tmp_path_factory):
    """A folder with images, a cache and a run, each with a byte in its name that is no UTF-8."""
    folder = tmp_path_factory.mktemp("odd")
    shutil.copytree(ten_digits, folder / os.fsdecode(b"set\xe9"))
    command(folder, "extract", b"set\xe9", *OPTIONS, "--cache", b"c\xe9.h5")
    command(folder, "train-head", b"c\xe9.h5", "--run", b"run\xe9", "--head", "knn")
    return folder


def command(folder, *words):
    """Return what a command prints, as bytes; onto an output that is strict UTF-8."""
    with contextlib.chdir(folder):
        done = CliRunner().invoke(cli.main, [os.fsdecode(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return done.stdout_bytes


def process(folder, *words):
    """Return what a command prints in a process of its own, as bytes."""
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "frostline", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode(errors="backslashreplace")
    return done.stdout


def test_extract_and_cache_info_write_the_bytes_of_the_names(folder):
    assert b"set\xe9" in command(folder, "extract", b"set\xe9", *OPTIONS, "--cache", b"c\xe9.h5")
    assert b"set\xe9" in command(folder, "cache", "info", b"c\xe9.h5")
    assert b"set\xe9" in process(folder, "cache", "info", b"c\xe9.h5")
    document = json.loads(command(folder, "cache", "info", b"c\xe9.h5", "--json"))
    assert os.fsencode(document["source"]).endswith(b"set\xe9")


def test_the_csv_of_predict_gives_back_the_bytes_of_the_names(folder, ten_digits):
    (folder / "new").mkdir()
    shutil.copy(next(ten_digits.glob("*/*")), os.fsencode(folder / "new") + b"/caf\xe9.png")
    output = command(folder, "predict", b"run\xe9", "new", "--top-k", "1")
    (row,) = csv.DictReader(io.StringIO(output.decode(errors="surrogateescape")))
    assert os.fsencode(row["path"]) == b"new/caf\xe9.png"
    assert row["label"]
    (prediction,) = json.loads(command(folder, "predict", b"run\xe9", "new", "--json"))
    assert os.fsencode(prediction["path"]) == b"new/caf\xe9.png"


def test_a_run_with_such_names_is_evaluated_and_compared(folder):
    assert b"run\xe9" in command(folder, "evaluate", b"run\xe9")
    assert b"run\xe9" in command(folder, "compare", b"run\xe9", "--format", "csv")


@needs_plotly
def test_a_run_with_such_names_is_reported(folder):
    command(folder, "report", b"run\xe9", "--out", b"report\xe9.html")
    assert (folder / os.fsdecode(b"report\xe9.html")).read_text("utf-8")


def test_fine_tuning_refuses_a_run_of_such_a_name_in_words(ten_digits, tmp_path):
    with pytest.raises(FinetuneError, match=r"b'run\\xe9', is not UTF-8 text.*--run"):
        finetune(ten_digits, run=os.fsdecode(b"run\xe9"), caches=tmp_path, **BACKBONE)


@pytest.fixture(scope="module")
def two_lines(folder):
    """Name of a run that looks like two lines, beside the folder's other run."""
    name = "run\nError: all is lost"
    shutil.copytree(folder / os.fsdecode(b"run\xe9"), folder / name)
    return name


def test_a_line_feed_in_a_name_begins_no_line(folder, two_lines, monkeypatch):
    monkeypatch.chdir(folder)

    def lines(*words):
        done = CliRunner().invoke(cli.main, words)
        return done.exit_code, done.stdout.splitlines(), done.stderr.splitlines()

    code, shown, told = lines("evaluate", two_lines)
    assert code == 0
    assert not any(line.startswith("Error") for line in shown + told)
    assert any("run\\nError: all is lost" in line for line in shown)
    code, shown, told = lines("compare", two_lines, os.fsdecode(b"run\xe9"))
    assert code == 0
    assert not any(line.startswith("Error") for line in shown + told)
    (folder / two_lines / "head.json").unlink()
    for words in (
        ("evaluate", two_lines),
        ("compare", two_lines + "\nError: of nothing"),
        ("verify", two_lines),
    ):
        code, shown, told = lines(*words)
        assert code in {1, 2}
        assert [line for line in shown + told if line.startswith("Error: ")] == [told[0]], words
