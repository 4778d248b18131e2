"""`torch.compile` whose compiled code is only used again on processors that it was made for."""

from typing import Any, cast

import torch
from torch import nn


def compile_network(network: nn.Module, **options: Any) -> nn.Module:
    """Compile a network by `torch.compile`.

    PyTorch keeps compiled networks on disk and finds them again without regard to the instructions that they were
    vectorised for: another processor that shares the folder, or the same one held to fewer instructions by
    ``ATEN_CPU_CAPABILITY``, would compute wrong numbers with them. The tag of PyTorch's compile caches therefore names
    these instructions from here on.

    Args:
        network: Any network.
        options: Further arguments of `torch.compile`.
    """
    config = torch.compiler.config
    tag = f"cpu={torch.backends.cpu.get_cpu_capability()}"
    if tag not in config.cache_key_tag:
        config.cache_key_tag = f"{config.cache_key_tag} {tag}".strip()
    return cast("nn.Module", torch.compile(network, **options))
