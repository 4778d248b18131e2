"""What a recipe refuses, and what torch makes of it."""

import pytest
import torch

from pipeline.errors import RecipeError
from pipeline.tuning.optimisation import Mixing, make_optimizer, make_schedule, replay, step
from pipeline.tuning.recipe import Recipe


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs: got 0, expected at least 1"),
        ({"lr": 0.0}, "lr: got 0.0, expected above 0"),
        ({"momentum": 1.0}, "momentum: got 1.0, expected at least 0 and below 1"),
        ({"layer_decay": 1.5}, "layer_decay: got 1.5, expected above 0, at most 1"),
        ({"optimizer": "adam"}, "optimizer: got 'adam', expected one of sgd, adamw"),
        ({"momentum": 0.0}, "nesterov: there is none without momentum"),
        ({"batch_size": 10, "accumulate": 3}, "accumulate: got 3, expected a divisor of the batch size, 10"),
        ({"views": 2, "augment": "none"}, "views: they vary images as augment 'crop' does, got 'none'"),
        ({"unfreeze_every": 2}, "unfreeze_every: nothing is frozen"),
    ],
)
def test_recipe_refuses(options, message):
    with pytest.raises(RecipeError, match=message):
        Recipe(**options)


def rates(recipe, updates):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = make_optimizer([{"params": [parameter], "lr": 1.0, "weight_decay": 0.0}], recipe)
    schedule = make_schedule(optimizer, recipe, updates)
    seen = []
    for _ in range(recipe.epochs * updates):
        seen.append(optimizer.param_groups[0]["lr"])
        parameter.grad = torch.zeros(1)
        optimizer.step()
        step(schedule)
    return seen


def test_cosine_rises_in_the_warmup_and_falls_to_nothing():
    seen = rates(Recipe(epochs=10, schedule="cosine", warmup=2), 10)
    assert seen[0] == pytest.approx(0.01)
    assert seen[20] == pytest.approx(1.0)
    assert seen[:21] == sorted(seen[:21])
    assert seen[20:] == sorted(seen[20:], reverse=True)
    assert seen[60] == pytest.approx(0.5)
    assert 0 < seen[-1] < 0.001


def test_step_falls_to_a_tenth_twice():
    seen = rates(Recipe(epochs=20, schedule="step", warmup=0), 5)
    assert seen[:60] == [1.0] * 60
    assert seen[60:85] == pytest.approx([0.1] * 25)
    assert seen[85:] == pytest.approx([0.01] * 15)


def test_constant_and_onecycle():
    assert rates(Recipe(epochs=3, schedule="constant", warmup=0), 4) == [1.0] * 12
    seen = rates(Recipe(epochs=10, schedule="onecycle"), 10)
    assert max(seen) == pytest.approx(1.0, rel=1e-3)
    assert seen[0] == pytest.approx(1 / 25)
    assert 28 <= seen.index(max(seen)) <= 32
    assert seen[-1] < 0.001


@pytest.mark.parametrize("schedule", ["cosine", "step", "onecycle", "constant"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_replayed_schedule_goes_on_as_if_it_had_never_stopped(schedule, optimizer):
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


def test_both_ways_of_mixing_are_drawn():
    images, labels = torch.rand(2, 3, 16, 16), torch.tensor([0, 1])
    mixing = Mixing(Recipe(mixup=1.0, cutmix=1.0), 2)
    blends = [mixing(images, labels)[0] for _ in range(40)]
    # a cut keeps pixels of one of the two images; a blend keeps hardly any
    cuts = [((blend == images) | (blend == images.flip(0))).all() for blend in blends]
    assert 5 < sum(map(bool, cuts)) < 35
