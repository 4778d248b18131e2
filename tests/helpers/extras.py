"""Marks of tests that need what only some installations have."""

from importlib.util import find_spec

import pytest


def needs(module, extra):
    """Mark of tests that are skipped where an extra is not installed."""
    return pytest.mark.skipif(find_spec(module) is None, reason=f"needs the extra {extra}")


needs_cleanlab = needs("cleanlab", "label-errors")
needs_mypy = needs("mypy", "dev")
needs_optuna = needs("optuna", "optuna")
needs_plotly = needs("plotly", "report")
needs_umap = needs("umap", "umap")
