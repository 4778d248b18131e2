"""Which rows an epoch draws, and how images are varied."""

import numpy as np
import pytest
import torch

from frostline.features.images.decoding import decode
from frostline.features.sources import open_source
from frostline.features.spec import Transform
from frostline.pipeline.options.learning.recipe import Recipe
from frostline.pipeline.tuning.inputs import ActivationInputs, BatchSampler, ImageInputs
from frostline.pipeline.tuning.trainer.processes import Processes

TRANSFORM = Transform(32, "shortest", (32, 32), "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
ALONE = Processes(0, 1, torch.device("cpu"))


def test_an_epoch_draws_each_row_at_most_once_and_differs_from_the_next():
    draw = BatchSampler(np.arange(100, 203), 10, 1, 0)
    assert draw.epoch_rows == sum(map(len, draw.chunks(0, 0, ALONE))) == 100
    first, second = (np.concatenate(draw.chunks(epoch, 0, ALONE)) for epoch in (0, 1))
    assert len(np.unique(first)) == len(first) == 100
    assert set(first) <= set(range(100, 203))
    assert not np.array_equal(first, second)


def test_resuming_draws_the_remaining_rows():
    draw = BatchSampler(np.arange(60), 10, 2, 3)
    whole, rest = draw.chunks(4, 0, ALONE), draw.chunks(4, 4, ALONE)
    assert len(whole) == 12
    assert all(np.array_equal(a, b) for a, b in zip(whole[8:], rest, strict=True))


def test_processes_and_steps_partition_each_update():
    draw = BatchSampler(np.arange(60), 12, 1, 3)
    alone = draw.chunks(0, 0, ALONE)
    parts = [
        BatchSampler(np.arange(60), 12, 3, 3).chunks(0, 0, Processes(rank, 2, torch.device("cpu")))
        for rank in (0, 1)
    ]
    for update, rows in enumerate(alone):
        shared = [part[3 * update + step] for part in parts for step in range(3)]
        assert sorted(np.concatenate(shared)) == sorted(rows)
        assert {len(chunk) for chunk in shared} == {2}


def test_set_smaller_than_a_batch_is_one_update():
    few = BatchSampler(np.arange(7), 64, 1, 0)
    assert [len(chunk) for chunk in few.chunks(0, 0, ALONE)] == [7]
    assert few.epoch_rows == 7


def images(digits, workers=0, **recipe):
    source = open_source(digits)
    labels = source.table.labels
    return source, ImageInputs(source, labels, TRANSFORM, Recipe(**recipe), workers=workers, warn=pytest.fail)


def first_batch(inputs, epoch, rows=(3, 50, 7)):
    ((pixels, labels),) = inputs.train([np.array(rows)], epoch)
    return pixels, labels


def test_plain_images_equal_extraction_input(digits):
    source, inputs = images(digits, augment="none")
    pixels, labels = first_batch(inputs, 0)
    judged, _ = next(inputs.validation(np.array([3, 50, 7])))
    expected = np.empty((32, 32, 3), np.uint8)
    decode(source.read(50)[0], TRANSFORM, expected)
    assert pixels.dtype == torch.uint8
    assert np.array_equal(pixels[1].permute(1, 2, 0).numpy(), expected)
    assert torch.equal(pixels, judged)
    assert labels.tolist() == source.table.labels[[3, 50, 7]].tolist()


@pytest.mark.parametrize(
    "recipe",
    [
        {"augment": "flip"},
        {"augment": "shift"},
        {"augment": "crop"},
        {"augment": "none", "randaugment": 9},
        {"augment": "none", "erasing": 1.0},
    ],
    ids=str,
)
def test_augmentation_depends_only_on_seed_epoch_and_image(digits, recipe):
    _, inputs = images(digits, **recipe)
    _, again = images(digits, **recipe)
    _, plain = images(digits, augment="none")
    everything = tuple(range(0, 120, 7))
    here, _ = first_batch(inputs, 1, everything)
    there, _ = first_batch(again, 1, everything[::-1])
    assert torch.equal(here, there.flip(0))  # whatever came before
    assert not torch.equal(here, first_batch(inputs, 2, everything)[0])
    assert not torch.equal(here, first_batch(images(digits, seed=1, **recipe)[1], 1, everything)[0])
    assert not torch.equal(here, first_batch(plain, 1, everything)[0])


def test_augmentation_keeps_the_global_random_state(digits):
    _, inputs = images(digits, augment="crop")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first_batch(inputs, 0)
    assert torch.equal(torch.rand(3), expected)


def test_worker_processes_match_the_main_process(digits):
    _, here = images(digits, augment="crop")
    _, there = images(digits, augment="crop", workers=2)
    chunks = [np.array([1, 2, 3]), np.array([90, 4])]
    for epoch in (0, 1):
        mine, theirs = (list(inputs.train(chunks, epoch)) for inputs in (here, there))
        assert all(torch.equal(a, b) for (a, _), (b, _) in zip(mine, theirs, strict=True))
        assert all(torch.equal(a, b) for (_, a), (_, b) in zip(mine, theirs, strict=True))


def test_activations_have_the_shape_of_the_stage():
    stored = np.arange(4 * 6, dtype=np.float16).reshape(4, 6)
    inputs = ActivationInputs([stored], np.array([0, 1, 2, 0]), (2, 3, 1), 0)
    ((activations, labels),) = inputs.train([np.array([2, 0])], 0)
    assert activations.shape == (2, 2, 3, 1)
    assert activations.dtype == torch.float32
    assert activations[0].flatten().tolist() == list(range(12, 18))
    assert labels.tolist() == [2, 0]
    assert sum(len(batch) for batch, _ in inputs.validation(np.arange(4))) == 4
    assert list(inputs.validation(np.arange(0))) == []


def test_epochs_draw_views_and_validation_uses_the_first():
    views = [np.full((50, 1), number, np.float32) for number in range(3)]
    inputs = ActivationInputs(views, np.zeros(50, np.int64), (1,), 7)
    drawn = [
        torch.cat([x for x, _ in inputs.train(np.array_split(np.arange(50), 4), epoch)])
        for epoch in (0, 1, 0)
    ]
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])
    assert all(8 <= int((drawn[0] == number).sum()) <= 26 for number in range(3))
    assert all(not x.any() for x, _ in inputs.validation(np.arange(50)))
