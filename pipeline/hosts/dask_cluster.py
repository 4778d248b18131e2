"""Connection to a Dask cluster through joblib's backend."""

import importlib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import joblib

from frostline.interrupts import children_ignore_interrupts
from frostline.pipeline.errors import ClusterError

_PATIENCE = 30  # seconds for a scheduler to answer, and for its first worker


@contextmanager
def connected(address: str) -> Iterator[int]:
    """Run the joblib calls within the block on a cluster; yield the number of jobs that it runs at once.

    The task of a worker that dies is repeated on another worker. All workers need the same files under the same
    paths and the same version of Frostline.

    Args:
        address: Address of a running scheduler, ``tcp://HOST:PORT``; or ``local:N`` for N processes on this
            machine that end with the block.

    Raises:
        ClusterError: Dask is not installed, or the cluster can't be reached or has no workers, or workers are killed
            again and again.
    """
    try:
        distributed: Any = importlib.import_module("distributed")  # only partly typed
    except ImportError as error:
        raise ClusterError("a cluster needs Dask: pip install 'frostline[dask]'") from error
    local = re.fullmatch(r"local:([1-9]\d*)", address)
    if not local and not re.fullmatch(r"(tcp|tls|ucx)://.+:\d+", address):
        raise ClusterError(f"cluster {address!r}: expected tcp://HOST:PORT of a Dask scheduler, or local:N")
    try:
        with (
            _started(distributed, int(local[1]))
            if local
            else _connect(distributed.Client, address) as client,
            joblib.parallel_config(backend=_backend(client)),
        ):
            yield _slots(client, address)
    except distributed.KilledWorker as error:
        raise ClusterError(
            f"cluster {address}: a task was given up after the workers that ran it had been killed, most likely because"
            " the memory of a worker ran out. Finished jobs are kept: run the same command again, with more memory per"
            f" worker ({error})"
        ) from error


def _backend(client: Any) -> Any:
    """Return joblib's backend for Dask, which also passes on the error of a task whose workers were killed.

    joblib's own waits for such a task for ever.
    """
    backend: Any = importlib.import_module("joblib._dask").DaskDistributedBackend
    submit = backend.submit if "submit" in vars(backend) else backend.apply_async  # before joblib 1.6

    class Backend(backend):  # type: ignore[misc]  # the package is optional
        def submit(self, func: Any, callback: Any = None) -> Any:
            future = submit(self, func, callback)

            def report(done: Any) -> None:
                if (error := done.exception()) is not None and callback is not None:
                    callback(error)  # joblib raises a result that is an exception

            future.add_done_callback(report)
            return future

        apply_async = submit  # the name that joblib calls before 1.5

    return Backend(client=client)


@contextmanager
def _started(distributed: Any, workers: int) -> Iterator[Any]:
    """Start a cluster of processes on this machine that ends with the block; yield its client."""
    options: dict[str, Any] = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    options["silence_logs"] = logging.ERROR  # it warns about every worker that ends slowly
    with children_ignore_interrupts():
        started = distributed.LocalCluster(processes=True, **options)
    with started as cluster, distributed.Client(cluster) as client:
        yield client


def _connect(connect: Any, address: str) -> Any:
    try:
        return connect(address, timeout=_PATIENCE)
    except (OSError, TimeoutError) as error:
        raise ClusterError(
            f"cluster {address}: no scheduler responds at this address ({error}); start one with: dask scheduler"
        ) from error


def _slots(client: Any, address: str) -> int:
    """Return the number of threads of all workers, each of which runs one job."""
    try:
        client.wait_for_workers(1, timeout=_PATIENCE)
    except TimeoutError as error:
        raise ClusterError(
            f"cluster {address}: the scheduler has no workers; start some with: dask worker {address}"
        ) from error
    return sum(client.ncores().values())
