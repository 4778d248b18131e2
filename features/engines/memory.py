"""Explanation of out-of-memory errors."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from frostline.features.engines.engine import Engine
from frostline.features.errors import DeviceMemoryError


@contextmanager
def memory_explained(engine: Engine) -> Iterator[None]:
    """Convert out-of-memory errors of `engine` to errors that recommend a smaller batch. Other errors propagate.

    Raises:
        DeviceMemoryError: A batch doesn't fit into the memory of the device.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        ours = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not ours and "can't allocate memory" not in str(error):
            raise
        raise DeviceMemoryError(
            f"a batch of {engine.batch_size} images doesn't fit into the memory of {engine.device} at "
            f"{engine.precision}; use a smaller --batch-size ({str(error).strip().partition(chr(10))[0]})"
        ) from error
