"""A short training of the small network: its options, what it left, and a way to kill it."""

import os
import sys
from contextlib import nullcontext
from pathlib import Path

from frostline.features.backbones.weights import read_weights
from tests.helpers.network import BACKBONE, as_options

QUIET = {"workers": 0, "device": "cpu", **BACKBONE}
FP32 = {"precision": "fp32"}
SMALL = {"epochs": 3, "batch_size": 24, "lr": 0.02, "backbone_lr": 1.0, "statistics": "batch", **FP32}
PLAIN = ("--workers", "0", "--device", "cpu", "--precision", "fp32")


def curve(result):
    return [
        (epoch.train_loss, epoch.train_accuracy, epoch.val_loss, epoch.val_accuracy, epoch.lr)
        for epoch in result.history
    ]


def state(run):
    return read_weights(Path(run) / "backbone.safetensors")


class KilledError(Exception):
    pass


class KillsAt:
    """A reporter under which the training dies after so many images."""

    def __init__(self, images):
        self.left = images

    def note(self, message):
        pass

    warn = note

    def task(self, description, _total):
        def advance(done, status=""):
            if description == "Training" and status:
                self.left -= done
                if self.left < 0:
                    raise KilledError

        return nullcontext(advance)


def command(digits, *options):
    return [
        sys.executable,
        "-m",
        "frostline",
        "finetune",
        str(digits),
        *as_options(BACKBONE),
        *PLAIN,
        *options,
    ]


def environment(**more):
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}
