"""Seeds for every test, and a processor with or without bf16 arithmetic on any machine."""

import os
import random
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _seeded():
    import torch

    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  # what libraries under test may draw from
    torch.manual_seed(0)
    torch.set_num_threads(1)  # tests run side by side, one process a core


@pytest.fixture(autouse=True)
def _processor(request, monkeypatch):
    """Answer for the processor, by FROSTLINE_TEST_BF16: 1 for one with bf16 arithmetic, 0 for one without."""
    answer = os.environ.get("FROSTLINE_TEST_BF16")
    if answer and not request.node.get_closest_marker("real_processor"):
        from features.engines import plan

        capabilities = {"1": {"amx_bf16": True}, "0": {}}[answer]
        monkeypatch.setattr(plan, "_cpu_capabilities", lambda: capabilities)


@pytest.fixture
def fast_path():
    """A folder where waiting for the disk costs nothing, for tests that write many files."""
    memory = Path("/dev/shm")  # noqa: S108  # the folder made in it has a name of its own
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    yield folder
    shutil.rmtree(folder)
