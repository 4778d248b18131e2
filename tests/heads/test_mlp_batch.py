"""MLPs that train together end as they would alone."""

import numpy as np
import pytest
import torch

from classifiers import MLPHead
from classifiers.errors import HeadError
from classifiers.mlp_batch import can_train_together, fit_together

QUICK = {"hidden": (16,), "epochs": 12, "batch_size": 32, "device": "cpu"}


@pytest.mark.parametrize("hidden", [(), (16,), (16, 8)])
@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_heads_without_dropout_end_as_they_would_alone(make_blobs, hidden, schedule):
    data = make_blobs(300, 12, 3, separation=0.5)
    train, val = slice(0, 200), slice(200, 300)
    own = [{"lr": lr, "weight_decay": decay} for lr in (0.003, 0.03) for decay in (0, 0.1)]
    options = {**QUICK, "hidden": hidden, "schedule": schedule, "dropout": 0, "patience": 3}
    validation = (data.X[val], data.y[val])
    alone = [MLPHead(**options, **o).fit(data.X[train], data.y[train], validation=validation) for o in own]
    together = fit_together(
        [MLPHead(**options, **o) for o in own], data.X[train], data.y[train], validation=validation
    )
    for one, other in zip(alone, together, strict=True):
        assert other.history_ == pytest.approx(np.array(one.history_), rel=1e-3, abs=1e-3)
        assert other.best_epoch_ == one.best_epoch_
        assert other.predict_proba(data.X) == pytest.approx(one.predict_proba(data.X), abs=1e-3)


def test_dropout_and_seeds_are_each_heads_own(blobs):
    heads = [MLPHead(**QUICK, dropout=p, random_state=seed) for p, seed in ((0, 0), (0.5, 0), (0, 1))]
    before = torch.get_rng_state()
    plain, dropped, other = fit_together(heads, blobs.X, blobs.y)
    assert torch.equal(torch.get_rng_state(), before)
    assert dropped.history_[-1].train_loss > plain.history_[-1].train_loss
    assert not np.allclose(plain.predict_proba(blobs.X), other.predict_proba(blobs.X), atol=1e-4)
    alone = MLPHead(**QUICK, dropout=0).fit(blobs.X, blobs.y)
    assert plain.predict_proba(blobs.X) == pytest.approx(alone.predict_proba(blobs.X), abs=1e-3)
    assert (dropped.predict(blobs.X) == blobs.y).mean() > 0.8


def test_heads_of_other_shapes_do_not_train_together(blobs):
    heads = [MLPHead(**QUICK), MLPHead(**{**QUICK, "hidden": (8,)})]
    assert not can_train_together(heads)
    assert not can_train_together([MLPHead(**QUICK, batch_norm=True)])
    with pytest.raises(HeadError, match="may differ in lr, weight_decay, dropout, random_state alone"):
        fit_together(heads, blobs.X, blobs.y)
