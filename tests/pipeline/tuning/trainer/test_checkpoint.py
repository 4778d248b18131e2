"""A killed training resumes as if it had not been killed."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.optim.optimizer import register_optimizer_step_pre_hook

from frostline.features.backbones import load_backbone
from frostline.files.documents import convert
from frostline.pipeline import Recipe, finetune
from frostline.pipeline.errors import FinetuneError, RunError
from frostline.pipeline.tuning.trainer.checkpoint import load_checkpoint, save_checkpoint
from frostline.pipeline.tuning.trainer.loop import _State
from tests.pipeline.tuning.training import (
    FP32,
    QUIET,
    SMALL,
    KilledError,
    KillsAt,
    command,
    curve,
    environment,
    state,
)


@pytest.mark.parametrize(
    "when",
    [
        pytest.param(30, id="first epoch", marks=pytest.mark.long),
        pytest.param(90, id="second epoch"),
        pytest.param(150, id="third epoch", marks=pytest.mark.long),
    ],
)
def test_killed_training_resumes_with_the_same_curve(digits, monkeypatch, when):
    monkeypatch.setattr("frostline.pipeline.tuning.trainer.loop._CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr("frostline.pipeline.tuning.trainer.loop._CLOCK_UPDATES", 1)
    recipe = Recipe(
        **FP32,
        epochs=3,
        batch_size=12,
        lr=0.02,
        statistics="batch",
        augment="crop",
        mixup=0.3,
        cutmix=0.5,
        dropout=0.2,
        ema=0.9,
        optimizer="adamw",
        erasing=0.3,
        clip=1.0,
        accumulate=2,
    )
    whole = finetune(digits, recipe=recipe, run="whole", **QUIET)
    with pytest.raises(KilledError):
        finetune(digits, recipe=recipe, run="killed", report=KillsAt(when), **QUIET)
    left = load_checkpoint(Path(".killed.tuning/checkpoint.safetensors"))
    assert left.state["update"] > 0 or left.state["epoch"] > 0
    resumed = finetune(digits, recipe=recipe, run="killed", **QUIET)
    assert resumed.resumed == left.state["epoch"]
    assert curve(resumed) == curve(whole)
    ours, theirs = state("killed"), state("whole")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_versioned_network_is_resumed(digits):
    """torchvision's MNASNet refuses to load tensors without the version that they are of."""
    recipe = Recipe(**FP32, epochs=2, batch_size=48, lr=1e-3, augment="none", ema=0.5)
    options = QUIET | {"backbone": "torchvision:mnasnet0_5", "run": "run"}
    with pytest.raises(KilledError):
        finetune(digits, recipe=recipe, report=KillsAt(60), **options)
    assert finetune(digits, recipe=recipe, **options).resumed == 1
    assert load_backbone("run:run").name == "torchvision:mnasnet0_5.IMAGENET1K_V1"


@pytest.fixture
def rates():
    """The head's learning rate at each update of any training."""
    seen = []
    # the rate of the head, which is the largest
    handle = register_optimizer_step_pre_hook(
        lambda optimizer, _args, _kwargs: seen.append(max(group["lr"] for group in optimizer.param_groups))
    )
    yield seen
    handle.remove()


def test_an_accumulated_and_resumed_training_steps_at_the_documented_epochs(digits, monkeypatch, rates):
    monkeypatch.setattr("frostline.pipeline.tuning.trainer.loop._CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr("frostline.pipeline.tuning.trainer.loop._CLOCK_UPDATES", 1)
    recipe = Recipe(
        **FP32,
        epochs=20,
        batch_size=24,
        accumulate=3,
        schedule="step",
        warmup=2,
        augment="none",
        frost_line="all",
    )
    with pytest.raises(KilledError):
        finetune(digits, recipe=recipe, run="run", report=KillsAt(24 * 8), **QUIET)
    left = load_checkpoint(Path(".run.tuning/checkpoint.safetensors")).state
    result = finetune(digits, recipe=recipe, run="run", **QUIET)
    updates = result.counts["train"] // 24
    done = left["epoch"] * updates + left["update"]
    assert 0 < done <= 8
    whole = rates[:done] + rates[9:]  # the update in which it died was done again
    assert len(whole) == 20 * updates
    falls = [number / updates for number in range(1, len(whole)) if whole[number] < whole[number - 1] / 5]
    assert falls == [12.0, 17.0]
    assert whole[2 * updates] == pytest.approx(recipe.peak_lr(from_scratch=False))


@pytest.mark.long
def test_sigkill_loses_no_finished_epoch(digits):
    options = ("--epochs", "6", "--batch-size", "24", "--quiet", "--json")
    whole = json.loads(
        subprocess.check_output([*command(digits, *options), "--run", "whole"], env=environment())
    )
    process = subprocess.Popen(
        [*command(digits, *options), "--run", "killed"], stdout=subprocess.DEVNULL, env=environment()
    )
    table = Path(".killed.tuning/curve.csv")
    while process.poll() is None and not (table.exists() and len(table.read_text().splitlines()) > 2):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    resumed = json.loads(
        subprocess.check_output([*command(digits, *options), "--run", "killed"], env=environment())
    )
    assert resumed["resumed"] >= 2
    keys = ("train_loss", "val_loss", "train_accuracy", "val_accuracy", "lr")
    assert [[epoch[key] for key in keys] for epoch in resumed["history"]] == [
        [epoch[key] for key in keys] for epoch in whole["history"]
    ]


def test_unfinished_training_with_other_settings_is_refused(digits):
    with pytest.raises(KilledError):
        finetune(digits, recipe=Recipe(**SMALL), run="run", report=KillsAt(100), **QUIET)
    with pytest.raises(FinetuneError, match=r"unfinished training with other settings.*--restart"):
        finetune(digits, recipe=Recipe(**(SMALL | {"lr": 0.01})), run="run", **QUIET)
    result = finetune(digits, recipe=Recipe(**(SMALL | {"lr": 0.01})), run="run", restart=True, **QUIET)
    assert result.resumed == 0
    with pytest.raises(RunError, match="run exists already"):
        finetune(digits, recipe=Recipe(**SMALL), run="run", **QUIET)


STATE = {
    "epoch": 0,
    "update": 1,
    "sums": [0.5, 1.0, 2.0],
    "seconds": 1.0,
    "history": [],
    "best": 0,
    "scale": {},
    "key": "k",
}


def flipped(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def test_a_changed_number_in_a_checkpoint_is_noticed(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, {"network.a": torch.ones(3), "network.b": torch.tensor(1.0)}, STATE)
    found = load_checkpoint(path)
    assert found.state == STATE
    assert torch.equal(found.part("network")["a"], torch.ones(3))
    flipped(path)
    with pytest.raises(FinetuneError, match=r"is damaged \(its digest differs.*--restart"):
        load_checkpoint(path)


@pytest.mark.parametrize("text", ["[1]", "5", '"text"', "{", "[" * 100_000, "1" * 5000])
def test_a_state_of_another_kind_is_refused(tmp_path, text):
    path = tmp_path / "checkpoint.safetensors"
    save_file({"network.a": torch.ones(3)}, path, metadata={"state": text})
    with pytest.raises(FinetuneError, match=r"is damaged .*--restart"):
        load_checkpoint(path)


@pytest.mark.parametrize("kind", ["folder", "loop", "pipe"])
def test_what_is_no_file_is_no_checkpoint(tmp_path, kind):
    path = tmp_path / "checkpoint.safetensors"
    make = {"folder": path.mkdir, "loop": lambda: path.symlink_to(path.name), "pipe": lambda: os.mkfifo(path)}
    make[kind]()
    with pytest.raises(FinetuneError, match=r"is damaged .*--restart"):
        load_checkpoint(path)
    path.rmdir() if kind == "folder" else path.unlink()
    assert load_checkpoint(path) is None


@pytest.mark.parametrize("field", STATE)
@pytest.mark.parametrize("value", [None, "text", -1, 10**40, [], {"a": 1}])
def test_fields_of_a_state_are_typed(field, value):
    try:
        found = convert({**STATE, field: value}, _State)
    except ValueError as error:
        assert field in str(error)  # noqa: PT017  # either of the two
    else:
        assert field == "key" or isinstance(value, int | dict | list)
        assert found.epoch >= 0
