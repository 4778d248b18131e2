"""Several processes extract one cache: under torchrun, killed and redone, merged."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from frostline.features.cache import FeatureCache, merge_parts
from tests.helpers.images import write_folder

SCRIPTS = Path(sys.executable).parent
IMAGES = 300  # two blocks


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(
        tmp_path_factory.mktemp("data") / "set", [f"{index % 3}/{index:04}.png" for index in range(IMAGES)]
    )


def command(folder, cache, *options):
    backbone = ("--backbone", "timm:test_resnet", "--weights", "random", "--batch-size", "32")
    return [str(SCRIPTS / "frostline"), "extract", str(folder), "--cache", str(cache), *backbone, *options]


def run(*arguments):
    done = subprocess.run(arguments, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def kill_in_its_rows(arguments, partial):
    """Kill a process while it writes rows; whether it was in time."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not partial.exists():
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return process.returncode == -signal.SIGKILL


def everything(cache):
    return {
        "ids": cache.ids.tolist(),
        "labels": cache.labels.tolist(),
        "classes": cache.classes,
        "split": cache.split.tobytes(),
        "content": cache.content.tobytes(),
        "stamps": cache.stamps.tobytes(),
        "features": cache.features().tobytes(),
        "key": cache.key,
    }


@pytest.mark.long
def test_two_processes_under_torchrun_one_killed_and_redone_equal_a_single_one(folder, tmp_path):
    path = tmp_path / "c.h5"
    first, second = tmp_path / "c.h5.part-1-of-2", tmp_path / "c.h5.part-2-of-2"
    torchrun = [str(SCRIPTS / "torchrun"), "--nproc-per-node", "2", "--no-python"]
    told = run(*torchrun, *command(folder, path))
    assert f"frostline cache merge {path}.part-*-of-2" in told
    assert {first.name, second.name} == {item.name for item in tmp_path.iterdir()}

    kept = first.read_bytes()
    second.unlink()
    assert kill_in_its_rows(command(folder, path, "--part", "2/2"), Path(f"{second}.partial"))
    assert not second.exists()
    redone = json.loads(run(*command(folder, path, "--part", "2/2", "--json")))
    assert redone["computed"] + redone["resumed"] == redone["rows"] == IMAGES - 256
    assert redone["part"] == "2/2"
    assert first.read_bytes() == kept

    merge = [str(SCRIPTS / "frostline"), "cache", "merge", str(second), str(first), "--delete-parts"]
    assert f"{IMAGES} images, merged from 2 parts" in run(*merge)
    run(*command(folder, tmp_path / "single.h5"))
    assert everything(FeatureCache.open(path)) == everything(FeatureCache.open(tmp_path / "single.h5"))
    assert {item.name for item in tmp_path.iterdir()} == {"c.h5", "single.h5"}


def test_a_wrong_part_is_a_usage_error(folder, tmp_path):
    done = subprocess.run(
        command(folder, tmp_path / "c.h5", "--part", "3/2"), check=False, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "3/2" in done.stderr


def test_merging_nothing_names_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="part-1-of-2"):
        merge_parts([tmp_path / "c.h5.part-1-of-2"])
