"""A folder for caches where waiting for the disk costs nothing, for tests that write many."""

import shutil
import tempfile
from pathlib import Path

import pytest


@pytest.fixture
def fast_path():
    memory = Path("/dev/shm")  # noqa: S108  # the folder made in it has a name of its own
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    yield folder
    shutil.rmtree(folder)
