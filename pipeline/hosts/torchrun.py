"""What a process learns from the launcher that started it beside others: its part of the work, and its GPU."""

import os
from collections.abc import MutableMapping

from frostline.features.cache import Part


def join_launcher(environment: MutableMapping[str, str] = os.environ) -> Part | None:
    """The part of a process that `torchrun` or the like started; from here on it sees one GPU only, its own.

    To be called before anything uses CUDA.

    Args:
        environment: Read for ``RANK``, ``WORLD_SIZE`` and ``LOCAL_RANK``; ``CUDA_VISIBLE_DEVICES`` is set in it.

    Returns:
        Part RANK + 1 of WORLD_SIZE; None where no launcher is at work, or this is its only process.

    Raises:
        PartError: The variables hold no such numbers.
    """
    part = Part.from_environment(environment)
    local = environment.get("LOCAL_RANK", "")
    if part is not None and local.isdecimal():
        _choose_gpu(int(local), environment)
    return part


def _choose_gpu(local_rank: int, environment: MutableMapping[str, str]) -> None:
    import torch

    count = torch.cuda.device_count()  # asks the driver, and does not start CUDA
    if not count:
        return
    visible = environment.get("CUDA_VISIBLE_DEVICES", "").split(",")
    names = visible if visible != [""] else [str(index) for index in range(count)]
    # More processes than GPUs share them.
    environment["CUDA_VISIBLE_DEVICES"] = names[local_rank % count]
