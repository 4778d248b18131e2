"""Seeds for every test, and a processor with or without bf16 arithmetic on any machine."""

import functools
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
        from frostline.features.engines import plan

        capabilities = {"1": {"amx_bf16": True}, "0": {}}[answer]
        monkeypatch.setattr(plan, "_cpu_capabilities", lambda: capabilities)


@pytest.fixture
def declare(tmp_path, monkeypatch):
    """Install packages, each of which declares entry points of one group."""
    folder = tmp_path / "installed"

    def install(group, package="brought", **places):
        metadata = folder / f"{package}-1.5.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.5\n")
        lines = [f"{name} = {place}\n" for name, place in places.items()]
        (metadata / "entry_points.txt").write_text(f"[{group}]\n" + "".join(lines))
        monkeypatch.syspath_prepend(folder)

    return install


@pytest.fixture
def fast_path():
    """A folder where waiting for the disk costs nothing, for tests that write many files."""
    memory = Path("/dev/shm")  # noqa: S108  # the folder made in it has a name of its own
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def cpu(monkeypatch):
    """A machine without a GPU and without bf16 arithmetic."""
    import torch

    from frostline.features.engines import plan

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    absent = functools.wraps(torch.backends.mps.is_available)(lambda: False)  # torch.compile unwraps it
    monkeypatch.setattr(torch.backends.mps, "is_available", absent)
    monkeypatch.setattr(plan, "_cpu_capabilities", dict)
    return monkeypatch


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """Three kinds of digits, 40 of each."""
    from frostline.pipeline.demo import write_digits

    whole = tmp_path_factory.mktemp("whole")
    write_digits(whole)
    folder = tmp_path_factory.mktemp("data") / "digits"
    for group in sorted(whole.iterdir())[:3]:
        (folder / group.name).mkdir(parents=True)
        for path in sorted(group.iterdir())[:40]:
            (folder / group.name / path.name).write_bytes(path.read_bytes())
    return folder
