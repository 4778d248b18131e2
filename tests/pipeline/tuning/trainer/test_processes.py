"""Two processes train like one."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from frostline.pipeline.runs.run import load_run
from tests.pipeline.tuning.training import command, environment


@pytest.mark.long
def test_two_processes_train_like_one(digits):
    options = ("--epochs=2", "--batch-size=24", "--augment=none", "--frost-line=layer2", "--no-cached")
    options += ("--json", "--quiet")
    one = json.loads(subprocess.check_output([*command(digits, *options), "--run", "one"], env=environment()))
    launcher = [str(Path(sys.executable).parent / "torchrun"), "--nproc-per-node", "2", "--no-python", "--"]
    done = subprocess.run(
        [*launcher, *command(digits, *options), "--run", "two"],
        check=False,
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    two = json.loads((Path("two") / "run.json").read_text())
    assert load_run("two").tuned
    with (Path("two") / "curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    for ours, theirs in zip(rows, one["history"], strict=True):
        assert float(ours["lr"]) == theirs["lr"]
        # statistics of batch normalisation are of half an update in each process
        assert float(ours["train_loss"]) == pytest.approx(theirs["train_loss"], rel=0.1)
    assert two["finetune"]["frozen_sha256"] == one["frozen_sha256"]
