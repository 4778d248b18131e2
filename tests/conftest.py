"""Seeds and small real images for every test."""

import random

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _seeded():
    import torch

    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  # what libraries under test may draw from
    torch.manual_seed(0)
    torch.set_num_threads(1)  # tests run side by side, one process a core
