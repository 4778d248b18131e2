"""Part and GPU that a launcher such as torchrun assigns to a process."""

import os
from collections.abc import MutableMapping

from frostline.features.cache import Part


def join_launcher(environment: MutableMapping[str, str] = os.environ) -> Part | None:
    """Return the part that a launcher such as `torchrun` assigns to this process, and restrict it to its own GPU.

    Call this function before anything uses CUDA.

    Args:
        environment: ``RANK``, ``WORLD_SIZE`` and ``LOCAL_RANK`` are read from it; ``CUDA_VISIBLE_DEVICES`` is set
            in it.

    Returns:
        Part RANK + 1 of WORLD_SIZE; None without a launcher, or if this is its only process.

    Raises:
        PartError: The variables do not hold valid numbers.
    """
    part = Part.from_environment(environment)
    local = environment.get("LOCAL_RANK", "")
    if part is not None and local.isdecimal():
        _choose_gpu(int(local), environment)
    return part


def _choose_gpu(local_rank: int, environment: MutableMapping[str, str]) -> None:
    import torch

    count = torch.cuda.device_count()  # queries the driver without initialising CUDA
    if not count:
        return
    visible = environment.get("CUDA_VISIBLE_DEVICES", "").split(",")
    names = visible if visible != [""] else [str(index) for index in range(count)]
    # If there are more processes than GPUs, they share the GPUs.
    environment["CUDA_VISIBLE_DEVICES"] = names[local_rank % count]
