"""Random weights, named ``random`` or ``random:SEED``."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


def seed_of_random_weights(weights: str | Path | None) -> int | None:
    """Return the seed of ``random`` (0) or ``random:SEED``; None for any other value."""
    found = re.fullmatch(r"random(?::(\d+))?", weights) if isinstance(weights, str) else None
    return int(found[1] or 0) if found else None


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the CPU's random generator temporarily, and restore the caller's state afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
