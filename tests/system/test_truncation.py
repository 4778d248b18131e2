"""A mapped cache that another program truncates."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from frostline.features.cache import FeatureCache
from frostline.features.errors import ChecksumError
from frostline.pipeline import train_head
from frostline.system.truncation import TruncatedError
from tests.helpers.runner import Command, run

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGBUS"), reason="Windows truncates no mapped file")

READING = """
import os, sys
from threading import Thread
from frostline.interrupts import INTERRUPTS
from frostline.features.cache import FeatureCache
if sys.argv[2] != "library": INTERRUPTS.handle()
cache = FeatureCache.open(sys.argv[1])
features = cache.features(as_torch=sys.argv[2] == "torch")
if sys.argv[2] == "closed": cache.close()
os.truncate(sys.argv[1], 100)
def read(): print(features.sum())
if sys.argv[2] == "thread":
    thread = Thread(target=read)
    thread.start()
    thread.join()
else: read()
"""


@pytest.fixture
def copied(ten_cache, tmp_path):
    return shutil.copy(ten_cache, tmp_path / "c.h5")


def reading(path, where):
    return subprocess.run(
        [sys.executable, "-c", READING, path, where], check=False, capture_output=True, text=True
    )


@pytest.mark.parametrize("where", ["numpy", "torch", "thread", "closed"])
def test_a_lost_page_ends_the_process_with_one_line(copied, where):
    done = reading(copied, where)
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"Error: {copied}: another program has truncated this file")
    assert not done.stdout


def test_programs_of_users_keep_their_handlers(copied):
    assert reading(copied, "library").returncode == -signal.SIGBUS


def test_a_truncation_is_an_error_at_the_next_check(copied):
    cache = FeatureCache.open(copied)
    cache.features()
    os.truncate(copied, 100)
    for use in (cache.features, cache.verify, cache.file.valid_blocks):
        with pytest.raises(ChecksumError, match="another program has truncated this file"):
            use()


def test_a_command_whose_cache_is_truncated_ends_with_one_line(copied, tmp_path):
    command = Command("train-head", copied, "--run", tmp_path / "run", "--quiet")
    command.wait_for(lambda: command.is_mapped("c.h5"))
    command.signal(signal.SIGSTOP)
    os.truncate(copied, 100)
    command.signal(signal.SIGCONT)
    code, errors = command.finish()
    assert code == 1
    (line,) = errors.splitlines()
    assert "another program has truncated this file" in line
    assert not (tmp_path / "run").exists()


def test_a_truncated_cache_is_refused_when_it_is_opened(copied):
    os.truncate(copied, 5000)
    assert "c.h5" in run("cache", "info", copied, code=1).stderr


def test_nothing_is_made_of_a_cache_that_was_cut_within_a_page(copied, tmp_path, monkeypatch):
    read, reads = FeatureCache.features, []

    def cut(self, *args, **options):
        found = read(self, *args, **options)
        reads.append(args)
        if len(reads) == 2:  # the last one, of the distances
            # The page is there still, so there is no signal.
            os.truncate(copied, Path(copied).stat().st_size - 100)
        return found

    monkeypatch.setattr(FeatureCache, "features", cut)
    with pytest.raises(TruncatedError, match=r"c\.h5: another program has truncated this file") as caught:
        train_head(copied, run=tmp_path / "run", head="linear")
    assert "[Errno" not in str(caught.value)
    assert not (tmp_path / "run").exists()
