"""Seeds for every test, and a processor with or without bf16 arithmetic on any machine."""

import os
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


@pytest.fixture(autouse=True)
def _processor(monkeypatch):
    """Answer for the processor, by FROSTLINE_TEST_BF16: 1 for one with bf16 arithmetic, 0 for one without."""
    if answer := os.environ.get("FROSTLINE_TEST_BF16"):
        from features.engines import plan

        capabilities = {"1": {"amx_bf16": True}, "0": {}}[answer]
        monkeypatch.setattr(plan, "_cpu_capabilities", lambda: capabilities)
