"""Seeds for every test, machines of any kind, and small real tasks out of scanned digits."""

import functools
import os
import random
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from threadpoolctl import threadpool_limits

from tests.helpers.images import copy_digits
from tests.helpers.network import BACKBONE_OPTIONS
from tests.helpers.runner import run

settings.register_profile("frostline", deadline=None)
settings.load_profile("frostline")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Small products gain nothing from threads, and tests run side by side, one process a core."""
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield


@pytest.fixture(autouse=True)
def _seeded():
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  # what libraries under test may draw from
    torch.manual_seed(0)


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
    from frostline.features.engines import plan

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    absent = functools.wraps(torch.backends.mps.is_available)(lambda: False)  # torch.compile unwraps it
    monkeypatch.setattr(torch.backends.mps, "is_available", absent)
    monkeypatch.setattr(plan, "_cpu_capabilities", dict)
    return monkeypatch


@pytest.fixture(scope="session")
def whole_digits(tmp_path_factory):
    """All scanned digits of scikit-learn."""
    from frostline.pipeline.demo import write_digits

    folder = tmp_path_factory.mktemp("whole")
    write_digits(folder)
    return folder


@pytest.fixture(scope="session")
def digits(whole_digits, tmp_path_factory):
    """Three kinds of digits, 40 of each."""
    return copy_digits(whole_digits, tmp_path_factory.mktemp("data") / "digits", classes=3, each=40)


@pytest.fixture(scope="session")
def few_digits(whole_digits, tmp_path_factory):
    """Three kinds of digits, 20 of each."""
    return copy_digits(whole_digits, tmp_path_factory.mktemp("data") / "digits", classes=3, each=20)


@pytest.fixture(scope="session")
def ten_digits(whole_digits, tmp_path_factory):
    """All ten kinds of digits, 12 of each."""
    return copy_digits(whole_digits, tmp_path_factory.mktemp("data") / "digits", classes=10, each=12)


@pytest.fixture(scope="session")
def ten_cache(ten_digits, tmp_path_factory):
    """Path of a cache of the ten kinds of digits."""
    path = tmp_path_factory.mktemp("cache") / "digits.h5"
    run("extract", ten_digits, *BACKBONE_OPTIONS, "--cache", path, "--quiet")
    return path


@pytest.fixture(scope="session")
def ten_run(ten_cache, tmp_path_factory):
    """Folder of a run on the ten kinds of digits."""
    path = tmp_path_factory.mktemp("runs") / "linear"
    run("train-head", ten_cache, "--run", path, "--quiet")
    return path


@pytest.fixture
def native_bf16(cpu):
    """A machine without a GPU whose processor has bf16 arithmetic."""
    from frostline.features.engines import plan

    cpu.setattr(plan, "_cpu_capabilities", lambda: {"amx_bf16": True})
