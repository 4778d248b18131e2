"""Every file that a command reads, as a pipe, a terminal, a socket, a device, a link to itself, a link to nothing, a folder.

Each ends in a result or in an error, at once and without a traceback.
"""

import os
import pty
import re
import shutil
import socket
import sys
import threading
from pathlib import Path

import pytest

from frostline import cli
from tests.helpers.images import write_folder
from tests.helpers.needs import needs_plotly
from tests.helpers.network import BACKBONE_OPTIONS
from tests.helpers.runner import CliRunner, run
from tests.helpers.tables import write_manifest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has none of them in folders")

_PATIENCE = 60  # seconds until a command that waits for a file is told apart from a slow one


class Special:
    """Something that is no file, under the name of a file."""

    def __init__(self, kind, path):
        self.kind, self.path = kind, path
        self._ends = []
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        getattr(self, f"_{kind}")()

    def _pipe(self):
        os.mkfifo(self.path)

    def _terminal(self):
        master, slave = pty.openpty()
        self._ends += [master, slave]
        self.path.symlink_to(os.ttyname(slave))

    def _socket(self):
        before = Path.cwd()
        os.chdir(self.path.parent)  # the path of a socket must be short
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("s")
        os.chdir(before)
        (self.path.parent / "s").rename(self.path)

    def _device(self):
        self.path.symlink_to("/dev/null")

    def _loop(self):
        self.path.symlink_to(self.path.name)

    def _dangling(self):
        self.path.symlink_to("nothing")

    def _folder(self):
        self.path.mkdir()

    def release(self):
        """End a read that waits."""
        if self.kind == "pipe":
            os.close(os.open(self.path, os.O_RDWR | os.O_NONBLOCK))
        for end in self._ends:
            os.close(end)
        self._ends = []


KINDS = ("pipe", "terminal", "socket", "device", "loop", "dangling", "folder")


def check(special, *arguments):
    """Run a command; returns its exit code and what it printed, with the name of a link in place of its target's."""
    waited = []
    target = os.path.realpath(special.path)  # a cache is named by its own path
    watchdog = threading.Timer(_PATIENCE, lambda: (waited.append(arguments), special.release()))
    watchdog.start()
    try:
        result = CliRunner().invoke(cli.main, [str(argument) for argument in arguments])
    finally:
        watchdog.cancel()
        watchdog.join()
        if special.kind == "terminal":
            special.release()
    assert not waited, f"waited for {special.path}"
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "Traceback" not in result.stderr
    return result.exit_code, (result.stdout + result.stderr).replace(target, special.path.name)


@pytest.fixture
def copied(ten_cache, ten_run, tmp_path):
    """Copies of a cache and of an evaluated run."""
    shutil.copy(ten_cache, tmp_path / "c.h5")
    shutil.copytree(ten_run, tmp_path / "run")
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
class TestNamed:
    """Files that the user names."""

    @pytest.mark.parametrize(
        "command",
        [
            ("cache", "info"),
            ("cache", "verify"),
            ("train-head",),
            ("label-errors",),
            ("few-shot",),
            ("learning-curve",),
            ("rank",),
            ("cache", "merge"),
            ("extract",),
            ("finetune",),
            ("batch",),
            ("batch", "--dry-run"),
            ("compare",),
            pytest.param(("report",), marks=needs_plotly),
            ("evaluate",),
            ("verify",),
        ],
        ids=" ".join,
    )
    def test_the_argument(self, tmp_path, monkeypatch, kind, command):
        monkeypatch.chdir(tmp_path)
        code, message = check(Special(kind, tmp_path / "file.h5"), *command, tmp_path / "file.h5")
        assert code in {1, 2}
        assert "file.h5" in message
        if kind == "loop":
            assert re.search("leads back to itself|levels of symbolic links|loop", message)

    @pytest.mark.parametrize("name", ["set.csv", "set.tsv", "set.parquet"])
    def test_a_manifest(self, tmp_path, monkeypatch, kind, name):
        monkeypatch.chdir(tmp_path)
        code, message = check(Special(kind, tmp_path / name), "extract", tmp_path / name)
        assert code == 1
        assert name in message

    def test_an_image_to_predict(self, copied, kind):
        special = Special(kind, copied / "image.png")
        code, message = check(special, "predict", copied / "run", special.path)
        assert code in {0, 1}
        assert "image.png" in message or code == 0

    @pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
    def test_weights(self, tmp_path, kind, name):
        folder = write_folder(tmp_path / "set", ["a/1.png"])
        special = Special(kind, tmp_path / name)
        options = ("--backbone", "timm:test_resnet", "--weights", special.path, "--cache", tmp_path / "c.h5")
        code, message = check(special, "extract", folder, *options)
        assert code == 1
        assert name in message

    @pytest.mark.parametrize("name", ["c.h5", "c.h5.partial", "c.h5.salvage1", "c.h5.part-1-of-2"])
    def test_a_cache_to_write(self, tmp_path, kind, name):
        folder = write_folder(tmp_path / "set", ["a/1.png"])
        special = Special(kind, tmp_path / name)
        code, message = check(special, "extract", folder, *BACKBONE_OPTIONS, "--cache", tmp_path / "c.h5")
        assert code in {0, 1}
        assert name in message or code == 0

    def test_rows_of_folders_and_manifests(self, tmp_path, kind):
        folder = write_folder(tmp_path / "set", ["a/1.png", "a/2.png"])
        options = ("--max-bad", 1, "--cache", tmp_path / "c.h5")
        special = Special(kind, folder / "a" / "2.png")
        assert check(special, "extract", folder, *BACKBONE_OPTIONS, *options)[0] == 0
        path = write_manifest(tmp_path / "m.csv", ["path"], ["set/a/1.png"], ["set/a/2.png"])
        special = Special(kind, folder / "a" / "2.png")
        options = ("--max-bad", 1, "--cache", tmp_path / "d.h5")
        code, _ = check(special, "extract", path, *BACKBONE_OPTIONS, *options)
        assert code == 0


RUN = [
    "run.json",
    "head.json",
    "head.safetensors",
    "split.safetensors",
    "evaluation.json",
    "test_predictions.csv",
    "validation_predictions.csv",
    "ledger.jsonl",
    "curve.csv",
    "curve.png",
    "SHA256SUMS",
]


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[] if kind in {"pipe", "dangling"} else pytest.mark.long) for kind in KINDS],
)
@pytest.mark.parametrize("name", RUN)
def test_a_file_of_a_run(copied, digits, kind, name):
    special = Special(kind, copied / "run" / name)
    image = next((digits / "1").iterdir())
    commands = [
        ("evaluate", special.path.parent, copied / "c.h5"),
        ("predict", special.path.parent, image),
        ("compare", special.path.parent),
        ("report", special.path.parent, "--out", copied / "report.html"),
        ("verify", special.path.parent),
    ]
    for command in commands:
        code, _ = check(Special(kind, special.path), *command)
        assert code in {0, 1}


@pytest.mark.parametrize("kind", ["pipe", "terminal", "loop", "dangling", "folder"])
@pytest.mark.parametrize(
    "name", ["images.npz", "checkpoint.safetensors", "best.safetensors", "curve.csv", ".lock"]
)
def test_a_file_of_an_unfinished_training(few_digits, tmp_path, monkeypatch, kind, name):
    monkeypatch.chdir(tmp_path)
    options = ("--backbone", "timm:test_resnet", "--from-scratch", "--image-size", 32, "--workers", 0)
    special = Special(kind, tmp_path / ".run.tuning" / name)
    code, _ = check(special, "finetune", few_digits, *options, "--epochs", 1, "--run", "run")
    assert code in {0, 1}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["backbone.json", "backbone.safetensors", "run.json"])
def test_a_file_of_a_network_of_ours(few_digits, tmp_path, kind, name):
    special = Special(kind, tmp_path / "run" / name)
    code, message = check(special, "extract", few_digits, "--backbone", f"run:{tmp_path / 'run'}")
    assert code == 1
    assert name in message or "run" in message


@pytest.mark.parametrize("kind", KINDS)
def test_a_journal(ten_cache, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    search = ("--search", "grid", "--head", "centroid", "--run", "run")
    names = []
    opened = "frostline.classifiers.fitting.journal.Journal.__enter__"
    from frostline.classifiers.fitting.journal import Journal

    enter = Journal.__enter__

    def remember(journal):
        if journal._path is not None:
            names.append(journal._path)
            Special(kind, journal._path)
        return enter(journal)

    monkeypatch.setattr(opened, remember)
    special = Special(kind, tmp_path / "unused")
    code, _ = check(special, "train-head", ten_cache, *search)
    assert code in {0, 1}


@pytest.mark.parametrize("kind", KINDS)
def test_the_measured_backbones(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    special = Special(kind, tmp_path / "frostline" / "backbones.json")
    code, _ = check(special, "backbones", "timm:test_resnet*")
    assert code == 0


@pytest.mark.parametrize("kind", ["pipe", "device", "loop", "postscript"])
def test_images_that_became_something_else_are_empty_tiles(kind, ten_digits, tmp_path, monkeypatch):
    """The pictures of an evaluation are drawn without them, nothing waits, and Ghostscript is not started."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ten_digits, "data")
    run("extract", "data", *BACKBONE_OPTIONS, "--cache", "c.h5", "--quiet")
    run(
        "train-head", "c.h5", "--run", "run", "--head", "knn", "--param", "n_neighbors=50", "--quiet"
    )  # which makes mistakes
    Path("bin").mkdir()
    for name in ("gs", "gswin32c", "gswin64c"):
        Path("bin", name).write_text("#!/bin/sh\ntouch started\n")
        Path("bin", name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    odd = tmp_path / "odd"
    special = Special("folder" if kind == "postscript" else kind, odd)
    if kind == "postscript":
        odd.rmdir()
        odd.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n")
    for path in Path("data").glob("*/*"):
        path.unlink()
        path.symlink_to(odd)
    code, message = check(special, "evaluate", "run")
    assert code == 0, message
    assert Path("run", "mistakes.png").stat().st_size
    assert not Path("started").exists()
