"""Folding of batch normalisation into the preceding convolution, which saves one operation."""

from collections import Counter, OrderedDict
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.hooks import RemovableHandle

# Exact class names, including timm's, because other subclasses may compute their weight in the forward pass.
_CONVOLUTIONS = ("Conv2d", "Conv2dSame")
_NORMS = ("BatchNorm2d", "BatchNormAct2d")
_EQUAL = 1e-4  # relative tolerance for the network's output; folding changes it by about 1e-6


def fold_batch_norms(network: nn.Module, size: tuple[int, int], kept: frozenset[str]) -> int:
    """Fold each batch normalisation in place into the convolution whose output only it reads.

    The pairs are found in a forward pass. The folded network is checked on the same images, and all folding is
    undone if its output differs.

    Args:
        network: Frozen network in evaluation mode.
        size: (height, width) of its input in pixels.
        kept: Names of modules whose own output is needed. Such convolutions are not folded.

    Returns:
        Number of folded batch normalisations.
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
    rest = OrderedDict(normalise.named_children())  # drop and act of timm's BatchNormAct2d
    return {convolution: fused, norm: nn.Sequential(rest) if rest else nn.Identity()}


def _watched(network: nn.Module, images: Tensor) -> tuple[Tensor, dict[str, str]]:
    """Return the network's output, and each convolution with the batch normalisation that reads its output next."""
    calls: Counter[str] = Counter()
    readers: dict[str, str] = {}
    produced: list[
        tuple[str, Tensor]
    ] = []  # output of the last convolution; the reference makes `is` reliable

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
