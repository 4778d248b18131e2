"""Batch normalisation folded into the convolution before it: the same function, in one operation less."""

from collections import Counter, OrderedDict
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.hooks import RemovableHandle

# By exact name, timm's among them: another subclass may compute its weight in the forward pass.
_CONVOLUTIONS = ("Conv2d", "Conv2dSame")
_NORMS = ("BatchNorm2d", "BatchNormAct2d")
_EQUAL = 1e-4  # relative difference of the network's output; what folding really changes is about 1e-6


def fold_batch_norms(network: nn.Module, size: tuple[int, int], kept: frozenset[str]) -> int:
    """Fold each batch normalisation into the convolution whose output it alone reads, in place.

    Which one reads which is seen by watching a forward pass; the result is proven on the same images, and undone where
    it doesn't give the same output.

    Args:
        network: Frozen and in evaluation mode.
        size: (height, width) of its input.
        kept: Names of modules whose own output is needed; such a convolution is left as it is.

    Returns:
        How many were folded.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, 3, *size, generator=generator)
    before, pairs = _watched(network, images)
    originals: dict[str, nn.Module] = {}
    for convolution, norm in pairs.items():
        if convolution in kept:
            continue
        for name, part in _folded(network, convolution, norm).items():
            originals[name] = network.get_submodule(name)
            network.set_submodule(name, part)
    with torch.inference_mode():
        after = network(images)
    if (after - before).norm() <= _EQUAL * before.norm():
        return len(originals) // 2
    for name, part in originals.items():
        network.set_submodule(name, part)
    return 0


def _folded(network: nn.Module, convolution: str, norm: str) -> dict[str, nn.Module]:
    normalise = cast("nn.BatchNorm2d", network.get_submodule(norm))
    fused = fuse_conv_bn_eval(cast("nn.Conv2d", network.get_submodule(convolution)), normalise)
    rest = OrderedDict(normalise.named_children())  # of timm's: drop, then act
    return {convolution: fused, norm: nn.Sequential(rest) if rest else nn.Identity()}


def _watched(network: nn.Module, images: Tensor) -> tuple[Tensor, dict[str, str]]:
    """The network's output, and each convolution with the batch normalisation that reads its output right away."""
    calls: Counter[str] = Counter()
    readers: dict[str, str] = {}
    produced: list[
        tuple[str, Tensor]
    ] = []  # the output of the last convolution, held so that `is` can be trusted

    def watch(name: str, part: nn.Module) -> RemovableHandle:
        def after_convolution(_part: nn.Module, _inputs: object, output: Tensor) -> None:
            calls[name] += 1
            produced[:] = [(name, output)]

        def before_norm(_part: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            calls[name] += 1
            if produced and inputs[0] is produced[0][1]:
                readers[produced[0][0]] = name

        if type(part).__name__ in _CONVOLUTIONS:
            return part.register_forward_hook(after_convolution)
        return part.register_forward_pre_hook(before_norm)

    watched = {*_CONVOLUTIONS, *_NORMS}
    handles = [watch(name, part) for name, part in network.named_modules() if type(part).__name__ in watched]
    try:
        with torch.inference_mode():
            output: Tensor = network(images)
    finally:
        for handle in handles:
            handle.remove()
    return output, {first: then for first, then in readers.items() if calls[first] == calls[then] == 1}
