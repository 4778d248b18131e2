"""Projections are finite and silent whatever some of the features hold."""

import numpy as np
import pytest

from frostline.classifiers.errors import HeadError
from frostline.classifiers.fitting.projection import ProjectedRows, ProjectionPlan, fit_projection


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


@pytest.mark.parametrize("method", ["pca", "random"])
def test_only_training_rows_are_read(blobs, method):
    rows = np.arange(0, len(blobs.X), 2)
    other = blobs.X.copy()
    other[1::2] = 1e6
    plan = ProjectionPlan(method, 4)
    first, second = fit_projection(blobs.X, rows, plan), fit_projection(other, rows, plan)
    assert np.array_equal(first.mean, second.mean)
    assert np.array_equal(first.components, second.components)


def test_principal_components():
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(50, 2)) @ rng.normal(size=(2, 6)) * 7 + 3).astype(np.float32)
    plan = ProjectionPlan.parse("pca:2")
    projected = ProjectedRows(X, fit_projection(X, np.arange(50), plan))[:]
    # Two directions hold all there is: distances between standardised rows stay.
    standard = (X - X.mean(axis=0)) / X.std(axis=0)
    ours, theirs = (np.linalg.norm(Z[:, None] - Z[None], axis=2) for Z in (projected, standard))
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    for text in ("pca", "pca:0", "svd:3", "random:x"):
        with pytest.raises(HeadError, match="expected pca:WIDTH"):
            ProjectionPlan.parse(text)
    with pytest.raises(HeadError, match="up to 6"):
        fit_projection(X, np.arange(50), ProjectionPlan("random", 7))
