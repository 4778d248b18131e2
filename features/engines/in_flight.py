"""Batches in flight: computed in order, a bounded number ahead of the consumer."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from frostline.features.engines.engine import Features
from frostline.features.images.batches import Batch


def _no_wait() -> None:
    """Return immediately, for outputs that are already computed."""


@dataclass(frozen=True)
class LaunchedBatch:
    """A launched batch.

    Attributes:
        outputs: (b, dim) float32 for each layer, in host memory. They are valid, and owned by the caller, after
            `wait`.
        wait: Function that blocks until the outputs are computed.
    """

    outputs: tuple[Tensor, ...]
    wait: Callable[[], object] = _no_wait


def in_order(
    batches: Iterable[Batch], launch: Callable[[Tensor], LaunchedBatch], keys: Sequence[str], *, ahead: int
) -> Iterator[tuple[Batch, Features]]:
    """Launch the batches and yield their features in order, with up to `ahead` later batches in flight.

    Args:
        batches: Batches to compute.
        launch: Function that launches the forward pass of (b, h, w, 3) uint8 pixels.
        keys: Keys of the layers.
        ahead: Number of batches in flight while the consumer handles one.

    Yields:
        Each batch, and its features by layer key: (k, views, dim) float32. If the iteration ends early, it waits for
        the batches in flight.
    """
    waiting: deque[tuple[Batch, LaunchedBatch]] = deque()
    try:
        for batch in batches:
            waiting.append((batch, launch(torch.from_numpy(batch.pixels))))
            if len(waiting) > ahead:
                yield _collect(*waiting.popleft(), keys)
        while waiting:
            yield _collect(*waiting.popleft(), keys)
    finally:
        # After an error or an interrupt, batches in flight still read their pixels and write their outputs.
        for _, launched in waiting:
            with contextlib.suppress(Exception):
                launched.wait()


def _collect(batch: Batch, launched: LaunchedBatch, keys: Sequence[str]) -> tuple[Batch, Features]:
    launched.wait()
    rows, views = len(batch.rows), batch.views
    arrays = (output[: rows * views].view(rows, views, -1).numpy() for output in launched.outputs)
    return batch, dict(zip(keys, arrays, strict=True))
