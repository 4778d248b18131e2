"""A module's forward pass written down as one graph of torch operators, for engines that compile it."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import make_fx

from frostline.features.engines.engine import ConversionError

if TYPE_CHECKING:
    from torch.fx import GraphModule


def _split(tensor: Tensor, size: int, dim: int = 0) -> Sequence[Tensor]:
    total = tensor.shape[dim]
    sizes = [min(size, total - start) for start in range(0, total, size)]
    return cast("Sequence[Tensor]", torch.ops.aten.split_with_sizes.default(tensor, sizes, dim))


# OpenVINO 2026.4 takes the last chunk of a split to be as long as the others.
_DECOMPOSITIONS = {torch.ops.aten.split.Tensor: _split}


def trace(module: nn.Module, pixels: Tensor) -> "GraphModule":
    """Run `module` once on `pixels` and write down its operators, for this shape alone.

    `make_fx` sees what really ran: four times as quick as `torch.export`, which runs a module several times over, and
    indifferent to Python that a compiler can't follow. Operators that a network calls in place are replaced by others.

    Args:
        module: Frozen, in evaluation mode.
        pixels: (b, h, w, 3) uint8, of the shape that the graph will be run with.

    Raises:
        ConversionError: The network decides something by the values of its activations.
    """
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch warns its own compiler's developers of
            return make_fx(functionalize(module), decomposition_table=_DECOMPOSITIONS)(pixels)
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise ConversionError(
            f"the network can't be written down as a graph: {str(error).strip().partition(chr(10))[0]}"
        ) from error
