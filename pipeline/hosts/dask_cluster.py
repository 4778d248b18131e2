"""Where one machine is outgrown: joblib's own backend for a Dask cluster."""

import importlib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import joblib

from frostline.pipeline.errors import ClusterError

_PATIENCE = 30  # seconds for a scheduler to answer, and for its first worker


@contextmanager
def connected(address: str) -> Iterator[int]:
    """Let everything that joblib runs inside of the block run on a cluster; give the number of jobs it runs at once.

    What a worker that dies was doing is done again by another. Workers have to see the same files under the same names,
    and to have the same Frostline.

    Args:
        address: Of a running scheduler, ``tcp://HOST:PORT``; or ``local:N`` for N processes of this machine, while the
            block lasts.

    Raises:
        ClusterError: It can't be reached, or has no workers.
    """
    try:
        distributed: Any = importlib.import_module("distributed")  # which is typed in part
    except ImportError as error:
        raise ClusterError("a cluster needs Dask: pip install 'frostline[dask]'") from error
    local = re.fullmatch(r"local:([1-9]\d*)", address)
    if not local and not re.fullmatch(r"(tcp|tls|ucx)://.+:\d+", address):
        raise ClusterError(f"cluster {address!r}: expected tcp://HOST:PORT of a Dask scheduler, or local:N")
    if not local:
        with (
            _reached(distributed.Client, address) as client,
            joblib.parallel_config(backend="dask", client=client),
        ):
            yield _slots(client, address)
        return
    options: dict[str, Any] = {"n_workers": int(local[1]), "threads_per_worker": 1, "dashboard_address": None}
    options["silence_logs"] = logging.ERROR  # it warns of every worker that takes its time to end
    with (
        distributed.LocalCluster(processes=True, **options) as cluster,
        distributed.Client(cluster) as client,
        joblib.parallel_config(backend="dask", client=client),
    ):
        yield _slots(client, address)


def _reached(connect: Any, address: str) -> Any:
    try:
        return connect(address, timeout=_PATIENCE)
    except (OSError, TimeoutError) as error:
        raise ClusterError(
            f"cluster {address}: no scheduler responds at this address ({error}); start one with: dask scheduler"
        ) from error


def _slots(client: Any, address: str) -> int:
    """Threads of all workers, each of which runs one job."""
    try:
        client.wait_for_workers(1, timeout=_PATIENCE)
    except TimeoutError as error:
        raise ClusterError(
            f"cluster {address}: the scheduler has no workers; start some with: dask worker {address}"
        ) from error
    return sum(client.ncores().values())
