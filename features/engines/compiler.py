"""`torch.compile` with compile caches that are only reused on compatible processors."""

from typing import Any, cast

import torch
from torch import nn


def compile_network(network: nn.Module, **options: Any) -> nn.Module:
    """Compile a network with `torch.compile`.

    PyTorch caches compiled networks on disk regardless of the instruction set that they were vectorised for.
    Another processor that shares the cache folder, or the same one limited by ``ATEN_CPU_CAPABILITY``, would
    compute wrong numbers with them. Therefore the instruction set is added to the key of PyTorch's compile caches,
    for the whole process.

    Args:
        network: Network to compile.
        options: Further keyword arguments of `torch.compile`.
    """
    config = torch.compiler.config
    tag = f"cpu={torch.backends.cpu.get_cpu_capability()}"
    if tag not in config.cache_key_tag:
        config.cache_key_tag = f"{config.cache_key_tag} {tag}".strip()
    return cast("nn.Module", torch.compile(network, **options))
