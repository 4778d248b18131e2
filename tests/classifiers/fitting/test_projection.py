"""Projections are finite and silent whatever some of the features hold."""

import numpy as np
import pytest

from frostline.classifiers.fitting.projection import ProjectionPlan, fit_projection


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("method", ["pca", "random"])
@pytest.mark.parametrize("scale", [0, 1e-42, 1e-30, 1e30])
def test_features_of_any_size_are_projected(blobs, method, scale):
    with np.errstate(under="ignore"):
        more = (np.random.default_rng(0).normal(size=(len(blobs.X), 3)) * scale).astype(np.float32)
    X = np.hstack([blobs.X, more])
    projection = fit_projection(X, np.arange(len(X)), ProjectionPlan(method, 4))
    assert np.isfinite(projection.transform(X)).all()
    varies = scale in {1e-30, 1e30}
    assert projection.components[:, -3:].any() == varies


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("method", ["pca", "random"])
def test_rows_that_are_all_the_same_become_zero(method):
    X = np.full((20, 6), 0.1, np.float32)
    projection = fit_projection(X, np.arange(20), ProjectionPlan(method, 3))
    assert not projection.transform(X).any()
