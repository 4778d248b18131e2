"""Running out of memory, explained."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from frostline.features.engines.engine import DeviceMemoryError, Engine


@contextmanager
def memory_explained(engine: Engine) -> Iterator[None]:
    """Say what to do when a batch of `engine` doesn't fit; other errors pass.

    Raises:
        DeviceMemoryError: It doesn't fit.
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
