"""Batches under way: computed in the order given, a bounded number ahead of whoever takes the features."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from frostline.features.engines.engine import Features
from frostline.features.images.loading import Batch


def _at_once() -> None:
    """Wait for nothing: the outputs are there."""


@dataclass(frozen=True)
class Launched:
    """A batch under way.

    Attributes:
        outputs: (b, dim) float32 for each layer, in the host's memory and nobody else's once `wait` has returned.
        wait: Returns when they are there.
    """

    outputs: tuple[Tensor, ...]
    wait: Callable[[], object] = _at_once


def in_order(
    batches: Iterable[Batch], launch: Callable[[Tensor], Launched], keys: Sequence[str], *, ahead: int
) -> Iterator[tuple[Batch, Features]]:
    """Launch each batch, and give its features once `ahead` more are under way or there are no more.

    Args:
        batches: In the order in which they come out.
        launch: Begins the forward pass of (b, h, w, 3) uint8 pixels.
        keys: Of the layers.
        ahead: Batches under way while the consumer has one.
    """
    waiting: deque[tuple[Batch, Launched]] = deque()
    for batch in batches:
        waiting.append((batch, launch(torch.from_numpy(batch.pixels))))
        if len(waiting) > ahead:
            yield _collect(*waiting.popleft(), keys)
    while waiting:
        yield _collect(*waiting.popleft(), keys)


def _collect(batch: Batch, launched: Launched, keys: Sequence[str]) -> tuple[Batch, Features]:
    launched.wait()
    rows, views = len(batch.rows), batch.views
    arrays = (output[: rows * views].view(rows, views, -1).numpy() for output in launched.outputs)
    return batch, dict(zip(keys, arrays, strict=True))
