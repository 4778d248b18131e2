"""Loading processes that the system kills."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data._utils import signal_handling

from frostline.features.sources import open_source
from frostline.features.spec import Transform
from frostline.pipeline import finetune
from frostline.pipeline.errors import FinetuneError
from frostline.pipeline.options.learning.recipe import Recipe
from frostline.pipeline.tuning import loading
from frostline.pipeline.tuning.inputs import ImageInputs
from tests.helpers.listener import Listener
from tests.helpers.paths import ROOT
from tests.pipeline.tuning.training import state

TRANSFORM = Transform(32, "shortest", (32, 32), "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CHUNKS = np.array_split(np.arange(120), 30)


def inputs(folder, workers, warn=pytest.fail):
    source = open_source(folder)
    recipe = Recipe(augment="crop")
    return ImageInputs(source, source.table.labels, TRANSFORM, recipe, workers=workers, warn=warn)


def kill_one(left):
    children = [child for child in multiprocessing.active_children() if child.name not in left]
    os.kill(children[0].pid, signal.SIGKILL)


@pytest.mark.skipif(sys.platform == "win32", reason="kills by a signal")
def test_batches_go_on_after_each_killed_process_and_stay_the_same(digits):
    before = [child.name for child in multiprocessing.active_children()]
    whole = list(inputs(digits, 0).train(CHUNKS, 1))
    told = []
    loaded = []
    for batch in inputs(digits, 2, told.append).train(CHUNKS, 1):
        loaded.append(batch)
        if len(loaded) in {5, 15}:
            kill_one(before)
    assert len(loaded) == len(whole)
    assert all(torch.equal(a, b) and torch.equal(x, y) for (a, x), (b, y) in zip(whole, loaded, strict=True))
    first, second = told
    assert first.startswith("A process that loads images was killed")
    assert "continues with 1 of them, with the same result" in first
    assert "continues without them" in second
    assert all("pass a lower --workers" in warning for warning in told)


@pytest.mark.skipif(sys.platform == "win32", reason="kills by a signal")
def test_training_with_a_killed_process_gives_the_same_network(digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    listener = Listener()

    def note(message):
        if message.startswith("epoch 1:"):
            kill_one(())

    listener.note = note
    recipe = Recipe(epochs=2, batch_size=8)
    options = {"recipe": recipe, "backbone": "timm:test_resnet", "from_scratch": True, "image_size": 32}
    finetune(digits, run="killed", workers=2, report=listener, **options)
    finetune(digits, run="whole", workers=0, report=Listener(), **options)
    assert any("A process that loads images was killed" in warning for warning in listener.warnings)
    ours, theirs = state("killed"), state("whole")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGCHLD")
def test_the_handler_that_another_loader_installed_raises_nothing_in_training(digits, monkeypatch):
    before = signal.getsignal(signal.SIGCHLD)
    monkeypatch.setattr(signal_handling, "_SIGCHLD_handler_set", False)
    try:
        list(DataLoader(TensorDataset(torch.zeros(2)), num_workers=1))
        assert signal.getsignal(signal.SIGCHLD) not in {before, signal.SIG_DFL}
        next(iter(inputs(digits, 2).train(CHUNKS, 1)))
        assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGCHLD, before)


SHARED = """
import numpy as np
from pathlib import Path
from tests.pipeline.tuning.test_loading import CHUNKS, inputs
import sys
told = []
whole = [images.sum().item() for images, _ in inputs(Path(sys.argv[1]), 0).train(CHUNKS, 0)]
print(whole == [images.sum().item() for images, _ in inputs(Path(sys.argv[1]), 2, told.append).train(CHUNKS, 0)])
print(*told)
"""


def test_small_shared_memory_is_named_and_done_without(digits):
    mount = "mount -t tmpfs -o size=16k tmpfs /dev/shm"
    isolated = ["unshare", "--mount", "sh", "-c"]
    if (
        not shutil.which("unshare")
        or subprocess.run([*isolated, mount], check=False, capture_output=True).returncode
    ):
        pytest.skip("needs the right to mount a file system")
    command = f'{mount} && exec "$0" -c "$1" "$2"'
    done = subprocess.run(
        [*isolated, command, sys.executable, SHARED, str(digits)],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    same, told = done.stdout.splitlines()
    assert same == "True"
    assert told.startswith("The shared memory (/dev/shm) is too small")
    assert told.count("continues without them") == 1
    assert "--shm-size" in told


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("DataLoader worker (pid(s) 12, 13) exited unexpectedly"), "was killed, most"),
        (RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. "), "by the signal Killed"),
        (RuntimeError("DataLoader worker (pid 12) is killed by signal: Bus error. It is"), "shared memory"),
        (
            RuntimeError("Caught RuntimeError ... unable to allocate shared memory(shm) for file"),
            "shared memory",
        ),
        (ConnectionResetError(104, "Connection reset by peer"), "was killed, most"),
        (EOFError(), "was killed, most"),
        (OSError(28, "No space left on device"), "shared memory"),
        (OSError(12, "Cannot allocate memory"), "No process can be started"),
    ],
)
def test_each_loss_is_told_by_its_cause(error, told):
    what, _, _ = loading._problem(error)
    assert told in what


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), OSError(5, "Input/output error")])
def test_other_errors_are_not_taken_for_losses(error):
    assert loading._problem(error) is None


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_vanishes_during_the_training_is_named(digits, tmp_path, workers):
    folder = shutil.copytree(digits, tmp_path / "digits")
    loader = inputs(folder, workers)
    (folder / "1" / min(path.name for path in (folder / "1").iterdir())).unlink()
    with pytest.raises(
        FinetuneError, match=r"1/.*: can't be read any more: No such file.*--restart"
    ) as caught:
        list(loader.train(CHUNKS, 0))
    assert "\n" not in str(caught.value)
