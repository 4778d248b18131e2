"""The MLP head learns, stops early, repeats itself, and leaves the world as it was."""

import random

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state

from frostline.classifiers import HEADS, LinearHead, MLPHead
from frostline.classifiers.errors import HeadError
from frostline.classifiers.heads.mlp_training import build_network, count_parameters

QUICK = {"hidden": (16,), "epochs": 15, "batch_size": 32, "lr": 0.01, "device": "cpu"}


def rings(n, seed=0):
    """Two classes that no line parts."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    angle = rng.uniform(0, 2 * np.pi, n)
    radius = 1 + 2 * y + 0.2 * rng.normal(size=n)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype(np.float32), y


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"optimizer": "sgd", "lr": 0.1, "schedule": "constant"},
        {"optimizer": "adam", "batch_norm": True, "activation": "gelu", "dropout": 0.0},
        {"hidden": (32, 16), "activation": "tanh", "dropout": 0.1},
    ],
)
def test_learns_nonlinear_classes(options):
    X, y = rings(400)
    Xt, yt = rings(300, seed=1)
    head = MLPHead(**{**QUICK, "epochs": 40, "hidden": (32,), **options}).fit(X, y)
    assert head.predict_proba(Xt).sum(axis=1) == pytest.approx(1)
    assert (head.predict(Xt) == yt).mean() > 0.97
    assert (LinearHead(device="cpu").fit(X, y).predict(Xt) == yt).mean() < 0.7


def test_without_hidden_layers_it_is_the_linear_head(blobs):
    mlp = MLPHead((), dropout=0, weight_decay=0, epochs=300, lr=0.05, batch_size=300, device="cpu")
    mlp.fit(blobs.X, blobs.y)
    linear = LinearHead(1e-4, device="cpu").fit(blobs.X, blobs.y)
    assert (mlp.predict(blobs.X) == linear.predict(blobs.X)).mean() > 0.98


def test_the_same_seed_gives_the_same_network_and_another_does_not(blobs):
    first, second, other = (MLPHead(**QUICK, random_state=seed).fit(blobs.X, blobs.y) for seed in (1, 1, 2))
    assert np.array_equal(first.predict_proba(blobs.X), second.predict_proba(blobs.X))
    assert not np.array_equal(first.predict_proba(blobs.X), other.predict_proba(blobs.X))


def test_global_generators_are_unchanged(blobs):
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    MLPHead(**QUICK).fit(blobs.X, blobs.y)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2])  # noqa: NPY002


def test_early_stopping_keeps_the_epoch_of_least_validation_loss(make_blobs):
    data = make_blobs(200, 12, 3, separation=0.4)
    train, val = slice(0, 100), slice(100, 200)
    head = MLPHead(**{**QUICK, "hidden": (64,), "epochs": 200, "dropout": 0, "patience": 5})
    head.fit(data.X[train], data.y[train], validation=(data.X[val], data.y[val]))
    losses = [epoch.validation_loss for epoch in head.history_]
    assert head.best_epoch_ == int(np.argmin(losses))
    assert len(losses) == head.n_iter_ == head.best_epoch_ + 6 < 200
    proba = head.predict_proba(data.X[val])
    kept = -np.log(proba[np.arange(100), data.y[val]]).mean()
    assert kept == pytest.approx(min(losses), rel=1e-4)
    accuracy = (head.predict(data.X[val]) == data.y[val]).mean()
    assert head.history_[head.best_epoch_].validation_accuracy == pytest.approx(accuracy)


def test_validation_rows_do_not_train(make_blobs):
    data = make_blobs(200, 12, 3)
    X, y = data.X[:100], data.y[:100]
    wrong = (data.y[100:] + 1) % 3
    options = {**QUICK, "patience": 15}
    honest = MLPHead(**options).fit(X, y, validation=(data.X[100:], data.y[100:]))
    misled = MLPHead(**options).fit(X, y, validation=(data.X[100:], wrong))
    assert [e.train_loss for e in honest.history_] == [e.train_loss for e in misled.history_]
    alone = MLPHead(**options).fit(X, y)
    assert [e.train_loss for e in honest.history_] == [e.train_loss for e in alone.history_]


def test_a_share_of_the_rows_can_be_held_out(blobs):
    head = MLPHead(**QUICK, early_stopping=0.25).fit(blobs.X, blobs.y)
    assert np.isfinite([epoch.validation_loss for epoch in head.history_]).all()
    assert not np.isfinite(MLPHead(**QUICK).fit(blobs.X, blobs.y).history_[0].validation_loss)


def test_learning_rate_warms_up_and_decays(blobs):
    head = MLPHead(**{**QUICK, "epochs": 10, "warmup": 0.3, "lr": 0.02}).fit(blobs.X, blobs.y)
    rates = [epoch.lr for epoch in head.history_]
    assert rates[0] < rates[1] < rates[2] < rates[3]
    assert rates[3] == pytest.approx(0.02)
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert 0 < rates[-1] < 0.002
    constant = MLPHead(**{**QUICK, "schedule": "constant", "warmup": 0}).fit(blobs.X, blobs.y)
    assert {epoch.lr for epoch in constant.history_} == {0.01}


def test_row_weights_move_the_decision(make_blobs):
    data = make_blobs(300, 4, 2, separation=0.2)
    shares = [
        (MLPHead(**QUICK).fit(data.X, data.y, np.where(data.y == 1, w, 1.0)).predict(data.X) == 1).mean()
        for w in (0.05, 1, 20)
    ]
    assert shares[0] < shares[1] < shares[2]


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_weights_are_copies_where_a_batch_holds_all_rows(make_blobs, class_weight):
    """float32 sums of 300 losses, 20 steps: 300 x 20 x 2^-24 is below 4e-4."""
    data = make_blobs(100, 6, 3, separation=0.5)
    weights = np.where(data.y == 0, 4, 1) * np.random.default_rng(0).integers(0, 3, 100)
    copies = np.repeat(np.arange(100), weights)
    options = {"dropout": 0, "optimizer": "sgd", "lr": 0.1, "epochs": 20, "batch_size": 1000, "device": "cpu"}
    head = MLPHead((8,), class_weight=class_weight, **options)
    weighed = head.fit(data.X, data.y, weights).predict_proba(data.X)
    assert weighed == pytest.approx(head.fit(data.X[copies], data.y[copies]).predict_proba(data.X), abs=4e-4)


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_rows_of_weight_0_are_ignored(make_blobs, class_weight):
    data = make_blobs(120, 6, 3, separation=0.5)
    kept = np.random.default_rng(0).random(120) < 0.7
    y = np.where(kept, data.y, 3)  # a class that no row has that counts
    head = MLPHead(**{**QUICK, "dropout": 0.5, "early_stopping": 0.2}, class_weight=class_weight)
    found = head.fit(data.X, y, kept.astype(float)).predict_proba(data.X)
    assert np.array_equal(found, head.fit(data.X[kept], data.y[kept]).predict_proba(data.X))


def test_rows_that_are_held_out_keep_their_weights(make_blobs):
    data = make_blobs(200, 4, 2, separation=0.3)
    weights = np.random.default_rng(0).integers(1, 9, 200).astype(float)
    options = {**QUICK, "epochs": 1, "early_stopping": 0.3}
    head = MLPHead(**options).fit(data.X, data.y, weights)
    generator = check_random_state(0)
    generator.randint(2**31 - 1)  # the seed of the network
    _, held = train_test_split(np.arange(200), test_size=0.3, stratify=data.y, random_state=generator)
    expected = log_loss(data.y[held], head.predict_proba(data.X[held]), sample_weight=weights[held])
    assert head.history_[0].validation_loss == pytest.approx(expected, rel=60 * 2**-23)


def test_biases_and_norms_are_not_decayed(blobs):
    options = {**QUICK, "batch_norm": True, "epochs": 2, "dropout": 0, "lr": 1e-7, "schedule": "constant"}
    light, heavy = (MLPHead(**options, weight_decay=decay).fit(blobs.X, blobs.y) for decay in (0, 1e6))
    for kept, now in zip(light.network_.parameters(), heavy.network_.parameters(), strict=True):
        if kept.ndim == 2:
            assert now.norm() < 0.5 * kept.norm()
        else:
            assert now.detach().numpy() == pytest.approx(kept.detach().numpy(), abs=1e-4)


def test_every_row_count_and_batch_size_trains_with_batch_norm(blobs):
    for n in (31, 32, 33, 65):
        head = MLPHead(**{**QUICK, "batch_norm": True, "epochs": 1}).fit(blobs.X[:n], blobs.y[:n])
        assert np.isfinite(head.predict_proba(blobs.X)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "step"}, "activation: got 'step', expected one of relu"),
        ({"hidden": (16, 0)}, r"hidden: got \(16, 0\)"),
        ({"dropout": 1}, "dropout: got 1"),
        ({"lr": 0}, "lr: got 0"),
        ({"optimizer": "newton"}, "optimizer: got 'newton'"),
        ({"momentum": 1}, "momentum: got 1"),
        ({"warmup": "some"}, "warmup: got some"),
        ({"batch_norm": True, "batch_size": 1}, "batch_size: got 1"),
    ],
)
def test_options_out_of_range_are_refused(blobs, options, message):
    with pytest.raises(HeadError, match=message):
        MLPHead(**options, device="cpu").fit(blobs.X, blobs.y)


@pytest.mark.parametrize("width", [10**30, 10**11, 10**9])
def test_networks_beyond_the_memory_are_refused(blobs, width, monkeypatch):
    monkeypatch.setattr("frostline.classifiers.heads.mlp_training.device_memory", lambda _device: 2**33)
    with pytest.raises(HeadError, match=r"hidden: got .* of the 8 GiB of memory; expected smaller widths"):
        MLPHead((width,), device="cpu").fit(blobs.X, blobs.y)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("hidden", [(), (8,), (8, 4)])
def test_parameters_are_counted_without_the_network(hidden, batch_norm):
    head = MLPHead(hidden, batch_norm=batch_norm)
    built = sum(value.numel() for value in build_network(head, 6, 3).parameters())
    assert count_parameters(head, 6, 3) == built


def test_a_long_value_is_shortened_in_the_message():
    with pytest.raises(HeadError, match="activation: got 'xxx") as caught:
        HEADS["mlp"].check({"activation": "x" * 10**6})
    assert len(str(caught.value)) < 500


def test_mismatched_validation_rows_raise(blobs):
    with pytest.raises(HeadError, match=r"validation: got features of shape \(300, 5\)"):
        MLPHead(**QUICK).fit(blobs.X, blobs.y, validation=(blobs.X[:, :5], blobs.y))
    with pytest.raises(HeadError, match=r"labels \[9\] that are not in y"):
        MLPHead(**QUICK).fit(blobs.X, blobs.y, validation=(blobs.X, np.full(300, 9)))


@pytest.mark.cuda
def test_gpu_training_is_repeatable_and_keeps_generators():
    X, y = rings(400)
    before = torch.cuda.get_rng_state()
    options = {**QUICK, "epochs": 60, "hidden": (64,), "device": "cuda"}
    first, second = (MLPHead(**options).fit(X, y) for _ in range(2))
    assert (first.predict(X) == y).mean() > 0.97
    assert first.predict_proba(X) == pytest.approx(second.predict_proba(X), abs=1e-6)
    assert torch.equal(torch.cuda.get_rng_state(), before)
