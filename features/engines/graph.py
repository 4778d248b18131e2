"""Tracing of a module's forward pass to one graph of torch operators, for engines that compile it."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import make_fx

from frostline.features.errors import ConversionError

if TYPE_CHECKING:
    from torch.fx import GraphModule


def _split(tensor: Tensor, size: int, dim: int = 0) -> Sequence[Tensor]:
    total = tensor.shape[dim]
    sizes = [min(size, total - start) for start in range(0, total, size)]
    return cast("Sequence[Tensor]", torch.ops.aten.split_with_sizes.default(tensor, sizes, dim))


# OpenVINO 2026.4 assumes that the last chunk of a split is as long as the others.
_DECOMPOSITIONS = {torch.ops.aten.split.Tensor: _split}


def trace(module: nn.Module, pixels: Tensor) -> "GraphModule":
    """Trace the operators of `module` in one run on `pixels`, for this shape only.

    `make_fx` records the operators that really ran. It is four times as fast as `torch.export`, which runs a module
    several times, and it accepts Python code that a compiler can't follow. In-place operators are replaced by
    out-of-place ones.

    Args:
        module: Frozen module in evaluation mode.
        pixels: (b, h, w, 3) uint8, with the shape that the graph will be run with.

    Raises:
        ConversionError: The network's control flow depends on the values of its activations.
    """
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # meant for developers of torch's compiler
            return make_fx(functionalize(module), decomposition_table=_DECOMPOSITIONS)(pixels)
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise ConversionError(
            f"the network can't be traced as a graph: {str(error).strip().partition(chr(10))[0]}"
        ) from error
