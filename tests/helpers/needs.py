"""Marks of tests that need an extra."""

from importlib.util import find_spec

import pytest

from frostline.features.engines import ENGINES


def needs(extra, *, here):
    """Mark of tests that are skipped where an extra is not installed."""
    return pytest.mark.skipif(not here, reason=f"needs the extra {extra}")


needs_cleanlab = needs("label-errors", here=find_spec("cleanlab"))
needs_mypy = needs("dev", here=find_spec("mypy"))
needs_openvino = needs("openvino", here=not ENGINES.missing("openvino"))
needs_optuna = needs("optuna", here=find_spec("optuna"))
needs_plotly = needs("report", here=find_spec("plotly"))
needs_umap = needs("umap", here=find_spec("umap"))
needs_pyarrow = needs("parquet", here=find_spec("pyarrow"))
needs_datasets = needs("datasets", here=find_spec("datasets"))
needs_anndata = needs("anndata", here=find_spec("anndata"))
needs_faiss = needs("faiss", here=find_spec("faiss"))
needs_lancedb = needs("lancedb", here=find_spec("lancedb"))
needs_pandas = needs("dev", here=find_spec("pandas"))
needs_polars = needs("polars", here=find_spec("polars"))
needs_tensorboard = needs("tensorboard", here=find_spec("tensorboard"))
needs_remote = needs("remote", here=find_spec("s3fs") and find_spec("aiohttp"))
needs_moto = needs("dev", here=find_spec("s3fs") and find_spec("moto") and find_spec("flask"))
