"""What a recipe refuses, and what torch makes of it."""

import math

import pytest
import torch

from frostline.pipeline.errors import RecipeError
from frostline.pipeline.options.learning.recipe import Recipe
from frostline.pipeline.tuning.trainer.optimisation import Mixing, make_optimizer, make_schedule, replay, step


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs: got 0, expected a whole number, at least 1"),
        ({"lr": 0.0}, "lr: got 0.0, expected a number, above 0, or None"),
        ({"momentum": 1.0}, "momentum: got 1.0, expected a number, at least 0 and below 1"),
        ({"layer_decay": 1.5}, "layer_decay: got 1.5, expected a number, above 0, at most 1"),
        ({"optimizer": "adam"}, "optimizer: got 'adam', expected one of sgd, adamw"),
        ({"momentum": 0.0}, "nesterov needs momentum > 0"),
        ({"batch_size": 10, "accumulate": 3}, "accumulate: got 3, expected a divisor of the batch size, 10"),
        ({"views": 2, "augment": "none"}, "views > 1 works only with augment 'crop', got 'none'"),
        ({"unfreeze_every": 2}, "unfreeze_every: nothing is frozen"),
        ({"seed": -1}, "seed: got -1, expected a whole number, 0 to 4294967295"),
    ],
)
def test_invalid_recipe_is_refused(options, message):
    with pytest.raises(RecipeError, match=message):
        Recipe(**options)


def steps(recipe, updates):
    """What the optimizer's group holds at each update."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = make_optimizer([{"params": [parameter], "lr": 1.0, "weight_decay": 0.0}], recipe)
    schedule = make_schedule(optimizer, recipe, updates)
    seen = []
    for _ in range(recipe.epochs * updates):
        seen.append({**optimizer.param_groups[0]})
        parameter.grad = torch.zeros(1)
        optimizer.step()
        step(schedule)
    return seen


def rates(recipe, updates):
    return [group["lr"] for group in steps(recipe, updates)]


def documented(schedule, total, warm):
    """Share of the largest rate at each update, by the recipe's words."""
    for update in range(total):
        done = (update - warm) / (total - warm)
        if update < warm:
            yield 0.01 + 0.99 * update / warm
        elif schedule == "cosine":
            yield (1 + math.cos(math.pi * done)) / 2
        elif schedule == "step":
            yield 0.1 ** ((update >= 0.6 * total) + (update >= 0.85 * total))
        else:
            yield 1.0


def rounding(total):
    """Each update's rate is the last one's by a factor or a term, which takes a few roundings each."""
    return 4 * total * 2**-53


# 20 and 40 updates: the shares of the epochs are whole numbers of updates
@pytest.mark.parametrize(("epochs", "updates"), [(10, 4), (20, 1), (1, 20)])
@pytest.mark.parametrize("warmup", [0, 0.25, 1, 3, 7, 9])
@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
def test_learning_rates_follow_the_recipe(schedule, warmup, epochs, updates):
    total = epochs * updates
    expected = list(documented(schedule, total, min(round(warmup * updates), total - 1)))
    seen = rates(Recipe(epochs=epochs, schedule=schedule, warmup=warmup), updates)
    assert seen == pytest.approx(expected, rel=0, abs=rounding(total))


@pytest.mark.parametrize("warmup", [0, 1, 2.5])
def test_step_schedule_is_independent_of_warmup(warmup):
    seen = rates(Recipe(epochs=10, schedule="step", warmup=warmup), 20)
    falls = [update / 20 for update in range(1, 200) if seen[update] < seen[update - 1] / 5]
    assert falls == [6.0, 8.5]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_onecycle_matches_torch_with_constant_momentum(optimizer):
    recipe = Recipe(epochs=10, schedule="onecycle", optimizer=optimizer, momentum=0.7)
    seen = steps(recipe, 5)
    theirs = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    cycle = torch.optim.lr_scheduler.OneCycleLR(theirs, 1.0, total_steps=51, cycle_momentum=False)
    expected = []
    for _ in range(50):
        expected.append(cycle.get_last_lr()[0])
        theirs.step()
        cycle.step()
    assert [group["lr"] for group in seen] == expected
    kept = {"sgd": ("momentum", 0.7), "adamw": ("betas", (0.9, 0.999))}
    name, value = kept[optimizer]
    assert {group[name] for group in seen} == {value}


@pytest.mark.parametrize("schedule", ["cosine", "step", "onecycle", "constant"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_replayed_schedule_continues_unchanged(schedule, optimizer):
    recipe = Recipe(epochs=6, schedule=schedule, optimizer=optimizer)
    whole = rates(recipe, 7)
    parameter = torch.nn.Parameter(torch.zeros(1))
    made = make_optimizer([{"params": [parameter], "lr": 1.0, "weight_decay": 0.0}], recipe)
    again = make_schedule(made, recipe, 7)
    replay(again, 17)
    assert made.param_groups[0]["lr"] == whole[17]


def test_mixed_images_have_mixed_labels():
    images, labels = torch.rand(8, 3, 8, 8), torch.arange(8) % 4
    mixed, targets = Mixing(Recipe(mixup=0.4), 4)(images, labels)
    assert targets.shape == (8, 4)
    assert torch.allclose(targets.sum(1), torch.ones(8))
    assert not torch.equal(mixed, images)
    same, unmixed = Mixing(Recipe(), 4)(images, labels)
    assert same is images
    assert unmixed is labels


def test_mixup_and_cutmix_are_both_drawn():
    images, labels = torch.rand(2, 3, 16, 16), torch.tensor([0, 1])
    mixing = Mixing(Recipe(mixup=1.0, cutmix=1.0), 2)
    blends = [mixing(images, labels)[0] for _ in range(40)]
    # a cut keeps pixels of one of the two images; a blend keeps hardly any
    cuts = [((blend == images) | (blend == images.flip(0))).all() for blend in blends]
    assert 5 < sum(map(bool, cuts)) < 35
