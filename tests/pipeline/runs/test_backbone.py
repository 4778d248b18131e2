"""Where weights came from is known to everything that was derived from them."""

import json
import shlex
from pathlib import Path

import pytest
import torch

from frostline.features.backbones import load_backbone
from frostline.features.cache import FeatureCache
from frostline.pipeline import Recipe, extract, finetune, predict, train_head
from frostline.pipeline.errors import RunError
from frostline.pipeline.runs.run import load_run
from frostline.pipeline.studies.html_report.commands import repeating_commands

EXACT = {"engine": "eager", "precision": "fp32", "device": "cpu"}
NAME = "timm:test_resnet"


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A weights file, named relative to the working folder."""
    monkeypatch.chdir(tmp_path)
    state = load_backbone(NAME, weights="random:7").module.state_dict()
    torch.save({"state_dict": state}, "mine.pth")
    return Path("mine.pth")


@pytest.mark.parametrize(
    "options", [{}, {"image_size": 32}, {"image_size": 32, "layers": ("layer1", "layer2")}, {"views": 2}]
)
def test_weights_of_a_run_are_found_from_any_folder(file, digits, tmp_path, monkeypatch, options):
    made = extract(digits, backbone=NAME, weights=file, cache="c.h5", **EXACT, **options)
    train_head("c.h5", "ridge", run="run", layer=made.layers[0])
    origin = str(tmp_path / file)
    assert FeatureCache.open("c.h5").weights == origin
    assert json.loads(Path("run/run.json").read_text())["caches"][0]["weights"] == origin
    assert made.weights_note == FeatureCache.open("c.h5").info().weights_note
    assert "read under 'state_dict.'" in made.weights_note
    command = shlex.split(repeating_commands(load_run("run"))[0])
    assert command[command.index("--weights") + 1] == origin
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert predict(tmp_path / "run", next(digits.glob("*/*")))[0].error is None


def test_random_weights_of_another_size_are_known(digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    extract(digits, backbone=NAME, weights="random:3", image_size=32, cache="c.h5", **EXACT)
    assert train_head("c.h5", "ridge", run="run").run
    assert load_run("run").caches[0].weights == "random:3"
    assert predict("run", next(digits.glob("*/*")))[0].error is None


@pytest.mark.parametrize("size", [None, 48])
def test_a_network_trained_here_is_known(file, digits, tmp_path, monkeypatch, size):
    recipe = Recipe(epochs=1, frost_line="layer2", augment="none")
    tuned = finetune(
        digits, backbone=NAME, weights=file, image_size=32, recipe=recipe, run="ft", workers=0, device="cpu"
    )
    assert tuned.weights_note.startswith("Weights mine.pth: read under 'state_dict.'")
    assert FeatureCache.open(tuned.cache).weights == str(tmp_path / file)  # of the activations below the line
    assert load_run("ft").record.finetune.weights == str(tmp_path / file)
    command = shlex.split(repeating_commands(load_run("ft"))[0])
    assert command[command.index("--weights") + 1] == str(tmp_path / file)
    extract(digits, backbone="run:ft", image_size=size, cache="c.h5", **EXACT)
    train_head("c.h5", "ridge", run="run")
    assert load_run("run").caches[0].weights == str(tmp_path / "ft" / "backbone.safetensors")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert predict(tmp_path / "run", next(digits.glob("*/*")))[0].error is None


def test_missing_weights_are_named_before_anything_is_downloaded(file, digits):
    extract(digits, backbone=NAME, weights=file, cache="c.h5", **EXACT)
    train_head("c.h5", "ridge", run="run")
    moved = file.rename("moved.pth")
    image = next(digits.glob("*/*"))
    with pytest.raises(
        RunError, match=r"weights /\S+mine\.pth, which are missing\. Pass the file with --weights"
    ):
        predict("run", image)
    assert predict("run", image, weights=[moved])[0].error is None
