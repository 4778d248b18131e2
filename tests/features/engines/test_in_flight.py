"""Batches in flight: none is abandoned while it is computed."""

import numpy as np
import pytest
import torch

from frostline.features.engines.in_flight import LaunchedBatch, in_order
from frostline.features.images.batches import Batch
from frostline.testing.images import photo


def batches(count, fails_at=None):
    for number in range(count):
        if number == fails_at:
            raise OSError("gone")
        pixels = np.array(photo(8, 8))[None]
        digest = np.zeros((1, 16), np.uint8)
        yield Batch(np.array([number]), pixels, digest, digest, np.zeros(1, np.uint8), ("",))


@pytest.fixture
def waited():
    return []


@pytest.fixture
def launch(waited):
    launched = []

    def launch(_pixels):
        launched.append(len(launched))
        number = launched[-1]
        return LaunchedBatch((torch.zeros(1, 2),), lambda: waited.append(number))

    return launch


def test_an_iteration_that_is_dropped_waits_for_the_batches_in_flight(launch, waited):
    """Their memory would be freed while compiled code writes to it."""
    found = in_order(batches(10), launch, ["a"], ahead=3)
    next(found)
    next(found)
    found.close()
    assert waited == [0, 1, 2, 3, 4]


def test_a_failing_source_waits_for_the_batches_in_flight(launch, waited):
    with pytest.raises(OSError, match="gone"):
        list(in_order(batches(10, fails_at=2), launch, ["a"], ahead=3))
    assert waited == [0, 1]
