"""The option that names a cluster."""

from dataclasses import dataclass

from frostline.options import Options, option


@dataclass(frozen=True, kw_only=True)
class ClusterOptions(Options):
    """Options of work on a cluster."""

    cluster: str | None = option(
        None,
        "Run on a Dask cluster, or on N local processes; needs frostline[dask].",
        metavar="tcp://HOST:PORT|local:N",
        setting=False,
    )
