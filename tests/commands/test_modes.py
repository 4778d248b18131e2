"""Every file and folder has the mode that the umask gives."""

import importlib.util
import os

import pytest

from tests.helpers.network import BACKBONE, EXTRACT_TABLE, as_options
from tests.helpers.runner import run

pytestmark = pytest.mark.skipif(os.name == "nt", reason="modes are POSIX's")

NETWORK = as_options(BACKBONE)
STUDY = f"""
[batch]
data = "{{data}}"
out = "out"
evaluate = true
{EXTRACT_TABLE}[[train-head]]
head = "knn"
"""


def session(data):
    """Run each command that writes files, in the current folder."""
    run("extract", data, *NETWORK, "--cache", "c.h5", "--quiet")
    with open("study.toml", "w", encoding="utf-8") as file:  # noqa: PTH123  # by the umask as well
        file.write(STUDY.format(data=data))
    run(
        "train-head",
        "c.h5",
        "--head",
        "linear",
        "--search",
        "random",
        "--trials",
        "2",
        "--run",
        "runs/linear",
    )
    run(
        "train-head",
        "c.h5",
        "--head",
        "mlp",
        "--param",
        "epochs=1",
        "--run",
        "runs/mlp",
        "--project",
        "pca:4",
    )
    run("evaluate", "runs/linear")
    run("few-shot", "c.h5", "--head", "centroid", "--shots", "1", "--episodes", "2", "--out", "shots")
    run("learning-curve", "c.h5", "--head", "centroid", "--points", "2", "--draws", "2", "--out", "curve")
    tune = ("--frost-line", "layer3", "--augment", "none", "--epochs", "1", "--run", "runs/tuned")
    run("finetune", data, *NETWORK, *tune, "--workers", "0")
    run("evaluate", "runs/tuned")
    run("batch", "study.toml")
    run("cache", "check", "c.h5", "--out", "check")
    run("backbones", "timm:test_resnet")
    if importlib.util.find_spec("plotly"):
        run("report", "runs/linear", "runs/mlp", "--out", "report.html", "--map", "none")
    if importlib.util.find_spec("cleanlab"):
        run("label-errors", "c.h5", "--out", "labels")


@pytest.mark.parametrize("umask", [0o027])
@pytest.mark.long
def test_modes_of_all_files_follow_the_umask(few_digits, tmp_path, monkeypatch, umask):
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    before = os.umask(umask)
    try:
        session(few_digits)
    finally:
        os.umask(before)
    found = {path.relative_to(place).as_posix(): path.stat().st_mode for path in place.rglob("*")}
    assert {"runs/linear/split.safetensors", "out", "c.h5", "check", "cache/frostline/backbones.json"} <= set(
        found
    )
    expected = {name: (0o777 if (place / name).is_dir() else 0o666) & ~umask for name in found}
    assert {name: mode & 0o777 for name, mode in found.items()} == expected
    hidden = [name for name in found if name.rpartition("/")[2].startswith(".")]
    assert hidden == []  # and no working file is left
