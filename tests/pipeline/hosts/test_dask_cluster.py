"""A Dask cluster: real schedulers and workers, one of which dies, and results equal to a local run."""

import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import joblib
import numpy as np
import pytest

from frostline.errors import OptionError
from frostline.features import FeatureCache
from frostline.pipeline import ClusterError, batch
from frostline.pipeline.hosts.dask_cluster import connected
from tests.helpers.runner import run

distributed = pytest.importorskip("distributed", reason="needs the extra dask")
dask = pytest.importorskip("dask")

STUDY = """
[batch]
data = "{data}"
out = "{out}"

[[extract]]
backbone = "timm:test_vit"
weights = "random:1"

[[train-head]]
head = ["linear", "knn", "ridge"]
"""


@pytest.fixture(scope="module")
def many(digits, tmp_path_factory):
    """Three kinds of digits over and over, each file unlike the others: three blocks of images."""
    folder = tmp_path_factory.mktemp("many") / "digits"
    for group in sorted(digits.iterdir()):
        (folder / group.name).mkdir(parents=True)
        for path in sorted(group.iterdir()):
            for copy in range(6):
                (folder / group.name / f"{path.stem}-{copy}.png").write_bytes(path.read_bytes() + bytes(copy))
    return folder


@contextmanager
def process(*command):
    """A process that is killed at the end, whatever happens."""
    running = subprocess.Popen(
        [sys.executable, "-m", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield running
    finally:
        running.kill()
        running.wait()


@contextmanager
def cluster(folder):
    """A scheduler and two workers of one thread, each a process of its own, without a nanny to start it again."""
    file = folder / "scheduler.json"
    with process(
        "distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)
    ):
        while not file.exists():
            time.sleep(0.05)
        worker = (
            "distributed.cli.dask_worker",
            "--scheduler-file",
            str(file),
            "--nthreads",
            "1",
            "--no-nanny",
            "--no-dashboard",
        )
        with (
            process(*worker) as first,
            process(*worker) as second,
            distributed.Client(scheduler_file=str(file)) as client,
        ):
            client.wait_for_workers(2)
            yield client, {running.pid: running for running in (first, second)}


@pytest.mark.long
def test_dying_worker_does_not_change_results(write_study, many, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    path = write_study(STUDY, data=many)
    local = batch(path)
    (tmp_path / "out").rename(tmp_path / "local")
    caches = tmp_path / "out" / "caches"
    killed = []

    def kill(workers):
        """One worker, while it is writing a part of the cache."""
        while not killed:
            for file in caches.glob("*.part-*-of-*.partial"):
                if pid := held_by(file, workers):
                    workers[pid].kill()
                    killed.append(pid)
                    return
            time.sleep(0.005)

    with cluster(tmp_path) as (client, workers):
        address = client.scheduler.address
        thread = threading.Thread(target=kill, args=(workers,), daemon=True)
        thread.start()
        result = batch(path, cluster=address)
        thread.join(timeout=1)
    assert len(killed) == 1
    assert not result.unfinished
    assert [job.stage for job in result.jobs].count("extract") == 2  # parts
    assert not list(caches.glob("*part*"))
    assert {run.name for run in result.runs} == {run.name for run in local.runs}
    for made in result.runs:
        for name in ("validation_predictions.csv", "split.safetensors"):
            assert (made / name).read_bytes() == (tmp_path / "local" / "runs" / made.name / name).read_bytes()
    (cache,) = caches.glob("*.h5")
    ours, theirs = FeatureCache.open(cache), FeatureCache.open(tmp_path / "local" / "caches" / cache.name)
    assert ours.verify().ok
    assert ours.key == theirs.key
    np.testing.assert_array_equal(ours.ids, theirs.ids)
    np.testing.assert_array_equal(ours.features(), theirs.features())


def end_of_a_worker(tests):
    if os.getpid() != tests:
        os._exit(1)


@pytest.mark.long
def test_a_task_that_kills_every_worker_is_an_error_of_the_cluster():
    calls = [joblib.delayed(end_of_a_worker)(os.getpid()) for _ in range(2)]
    with (
        pytest.raises(ClusterError, match="most likely because the memory of a worker ran out"),
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        connected("local:2"),
    ):
        list(joblib.Parallel(return_as="generator")(calls))


def held_by(file, pids):
    """The process among these that has a file open, if any still has."""
    for pid in pids:
        with suppress(OSError):  # closed meanwhile
            if any(link.resolve() == file for link in Path(f"/proc/{pid}/fd").iterdir()):
                return pid
    return None


def test_search_on_a_cluster_equals_that_of_one_process(write_study, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    result = batch(write_study(STUDY))
    (cache,) = result.out.glob("caches/*.h5")
    arguments = [
        "train-head",
        str(cache),
        "--head",
        "ridge",
        "--search",
        "random",
        "--trials",
        "5",
        "--quiet",
        "--json",
    ]
    for place, options in (("here", ()), ("there", ("--cluster", "local:2"))):
        run(*arguments, "--run", tmp_path / place, *options)
    one, other = (
        np.genfromtxt(tmp_path / place / "search.csv", delimiter=",", names=True)
        for place in ("here", "there")
    )
    for name in ("alpha", "accuracy", "log_loss"):
        np.testing.assert_array_equal(one[name], other[name])
    assert len(one) == 5


@pytest.mark.parametrize("address", ["local", "local:0", "somewhere", "http://host:1"])
def test_malformed_address_is_refused(address):
    with pytest.raises(ClusterError, match=r"expected tcp://HOST:PORT .* or local:N"), connected(address):
        pass


def test_unreachable_scheduler_is_named(monkeypatch):
    monkeypatch.setattr("frostline.pipeline.hosts.dask_cluster._PATIENCE", 0.1)
    with (
        pytest.raises(ClusterError, match="no scheduler responds at this address"),
        connected("tcp://127.0.0.1:9"),
    ):
        pass


def test_missing_dask_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ClusterError, match=r"pip install 'frostline\[dask\]'"), connected("local:1"):
        pass


def test_processes_and_cluster_exclude_each_other(write_study):
    with pytest.raises(OptionError, match="jobs: got 2, expected 1 with a cluster"):
        batch(write_study(), jobs=2, cluster="local:1")
