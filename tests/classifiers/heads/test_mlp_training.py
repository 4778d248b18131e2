"""MLPs that train together end as they would alone, and step as torch's optimizers and schedules do."""

import numpy as np
import pytest
import torch
from torch import nn

from frostline.classifiers import HEADS, LabelledRows, MLPHead
from frostline.classifiers.errors import HeadError
from frostline.classifiers.fitting import search as searching
from frostline.classifiers.fitting.search import SearchPlan, search_head
from frostline.classifiers.heads.mlp import can_train_together, fit_together
from frostline.classifiers.heads.mlp_training import (
    TrainingRows,
    build_network,
    learning_rate,
    train_networks,
)
from tests.classifiers.fits import take_options

QUICK = {"hidden": (16,), "epochs": 8, "batch_size": 32, "device": "cpu"}
OWNS = [
    {"lr": 0.003, "weight_decay": 0.0, "dropout": 0.0},
    {"lr": 0.03, "weight_decay": 0.1, "dropout": 0.6},
    {"lr": 0.03, "weight_decay": 0.0, "dropout": 0.2, "momentum": 0.5},
]


@pytest.fixture(scope="module")
def data(make_blobs):
    return make_blobs(300, 12, 3, separation=0.5)


@pytest.mark.parametrize(
    "options",
    [
        {"hidden": ()},
        {"hidden": (16, 8), "activation": "gelu", "optimizer": "adam"},
        {"batch_norm": True, "optimizer": "sgd", "schedule": "onecycle"},
        {"optimizer": "sgd", "nesterov": False, "schedule": "step", "class_weight": "balanced"},
        {"schedule": "constant", "early_stopping": 0.3},
    ],
    ids=str,
)
def test_batched_training_matches_single_trainings(data, options):
    options = {**QUICK, "patience": 2, **options}
    validation = None if "early_stopping" in options else (data.X[200:], data.y[200:])
    X, y = data.X[:200], data.y[:200]
    alone = [MLPHead(**options, **own).fit(X, y, validation=validation) for own in OWNS]
    together = fit_together([MLPHead(**options, **own) for own in OWNS], X, y, validation=validation)
    for one, other in zip(alone, together, strict=True):
        assert np.array(other.history_) == pytest.approx(np.array(one.history_), rel=1e-3, abs=1e-3)
        assert other.best_epoch_ == one.best_epoch_
        assert other.predict_proba(data.X) == pytest.approx(one.predict_proba(data.X), abs=1e-3)
    assert len({tuple(head.history_) for head in together}) == len(OWNS)


def test_batched_training_keeps_generators(data):
    before = torch.get_rng_state()
    fit_together([MLPHead(**QUICK, **own) for own in OWNS], data.X, data.y)
    assert torch.equal(torch.get_rng_state(), before)


def test_heads_of_other_shapes_do_not_train_together(data):
    heads = [MLPHead(**QUICK), MLPHead(**{**QUICK, "hidden": (8,)})]
    assert not can_train_together(heads)
    assert not can_train_together([MLPHead(**QUICK), MLPHead(**QUICK, random_state=1)])
    with pytest.raises(HeadError, match="may differ only in lr, weight_decay, momentum, dropout"):
        fit_together(heads, data.X, data.y)
    assert HEADS["mlp"].together == ("lr", "weight_decay", "momentum", "dropout")


@pytest.mark.parametrize(
    ("options", "make"),
    [
        ({"optimizer": "adamw"}, lambda groups: torch.optim.AdamW(groups, lr=0.02)),
        ({"optimizer": "adam"}, lambda groups: torch.optim.Adam(groups, lr=0.02)),
        ({"optimizer": "sgd"}, lambda groups: torch.optim.SGD(groups, lr=0.02, momentum=0.8, nesterov=True)),
        (
            {"optimizer": "sgd", "nesterov": False},
            lambda groups: torch.optim.SGD(groups, lr=0.02, momentum=0.8),
        ),
    ],
    ids=["adamw", "adam", "sgd with nesterov", "sgd"],
)
def test_optimizer_steps_match_torch(data, options, make):
    head = MLPHead(
        (8,), **options, lr=0.02, weight_decay=0.1, momentum=0.8, dropout=0, epochs=5, batch_size=300
    )
    X, y = torch.as_tensor(data.X), torch.as_tensor(data.y)
    rows = TrainingRows(X, y, torch.ones(len(X)))
    (found,) = train_networks([head], 3, rows, None, seed=7, device=torch.device("cpu"))
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = build_network(head, 12, 3)
    weights = [module.weight for module in network if isinstance(module, nn.Linear)]
    biases = [module.bias for module in network if isinstance(module, nn.Linear)]
    optimizer = make([{"params": weights, "weight_decay": 0.1}, {"params": biases, "weight_decay": 0.0}])
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate(head, 5))
    for _ in range(5):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(X), y).backward()
        optimizer.step()
        scheduler.step()
    for ours, theirs in zip(found.network.parameters(), network.parameters(), strict=True):
        assert ours.detach().numpy() == pytest.approx(theirs.detach().numpy(), abs=1e-5)


@pytest.mark.parametrize(("warmup", "steps"), [("auto", 60), (0.3, 7), (0.5, 10), (0.95, 10), (0.999, 2000)])
def test_one_cycle_matches_torch(warmup, steps):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=1,
        total_steps=steps,
        pct_start=0.3 if warmup == "auto" else warmup,
        cycle_momentum=False,
    )
    rates = []
    for _ in range(steps):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        if len(rates) < steps:
            scheduler.step()
    ours = learning_rate(MLPHead(schedule="onecycle", warmup=warmup), steps)
    # each is a cosine of the same share, whose few roundings are of numbers up to the number of steps
    assert [ours(step) for step in range(steps)] == pytest.approx(rates, rel=0, abs=8 * steps * 2**-53)


def test_one_cycle_without_a_warmup_starts_at_the_peak():
    for steps in (1, 2, 10):
        rates = [
            learning_rate(MLPHead(schedule="onecycle", warmup=0.0), steps)(step) for step in range(steps)
        ]
        assert rates[0] == 1
        assert rates == sorted(rates, reverse=True)


def documented(schedule, steps, warm):
    """Share of the peak at each step, by the words of `learning_rate`."""
    for step in range(steps):
        if step < warm:
            yield (step + 1) / warm
        elif schedule == "cosine":
            yield (1 + np.cos(np.pi * (step - warm) / (steps - warm))) / 2
        elif schedule == "step":
            yield 0.1 ** ((step >= steps / 2) + (step >= 3 * steps / 4))
        else:
            yield 1.0


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
@pytest.mark.parametrize(
    ("warmup", "steps", "warm"),
    [(0.0, 40, 0), ("auto", 40, 2), (0.1, 40, 4), (0.29, 100, 29), (0.6, 40, 24), (0.5, 1, 0)],
)
def test_other_schedules_match_their_description(schedule, warmup, steps, warm):
    ours = learning_rate(MLPHead(schedule=schedule, warmup=warmup), steps)
    expected = list(documented(schedule, steps, warm))
    assert [ours(step) for step in range(steps)] == pytest.approx(expected, rel=0, abs=8 * 2**-53)


class TestSearch:
    """train-head --head mlp --search random trains candidates of one architecture together."""

    def run(self, data, *, params=None, **options):
        rows = LabelledRows(data.X, data.y, np.arange(150), np.arange(150, 300), data.classes)
        options["params"] = {"hidden": (8,), "epochs": 4, **(params or {})}
        return search_head("mlp", rows, SearchPlan("random", 5), take_options(options), **options)

    def scores(self, found):
        return np.array([[trial["accuracy"], trial["log_loss"]] for trial in found.trials])

    def test_batched_search_matches_sequential_search(self, data, monkeypatch):
        calls, score = [], searching._score
        monkeypatch.setattr(
            searching, "_score", lambda task, some, share: calls.append(len(some)) or score(task, some, share)
        )
        together = self.run(data)
        assert calls == [5]
        monkeypatch.setattr(searching, "_TOGETHER", 1)
        alone = self.run(data)
        assert calls[1:] == [1] * 5
        assert self.scores(together) == pytest.approx(self.scores(alone), abs=0.01)

    def test_interrupted_search_computes_missing_trials(self, data, monkeypatch, tmp_path):
        whole = self.run(data)
        monkeypatch.setattr(searching, "_TOGETHER", 2)
        calls, score = [], searching._score

        def killed(*arguments):
            calls.append(arguments)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return score(*arguments)

        monkeypatch.setattr(searching, "_score", killed)
        with pytest.raises(KeyboardInterrupt):
            self.run(data, journal=tmp_path / "search")
        again = self.run(data, journal=tmp_path / "search")
        assert again.resumed == 2
        assert self.scores(again) == pytest.approx(self.scores(whole), abs=0.01)
