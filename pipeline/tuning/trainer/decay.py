"""Which parameters weight decay falls on."""

import fnmatch
from collections.abc import Iterator

from torch import nn


def decaying(module: nn.Module) -> set[int]:
    """Identities of the parameters that decay: weights by which a layer multiplies its inputs.

    They have two dimensions or more and are named so by their layers (``weight``, ``in_proj_weight``, ``weight_hh_l0``):
    of linear, convolutional, recurrent and attention layers. Biases, normalisation, layer scales, tokens, position
    embeddings and tables of relative positions aren't, nor is what the network names in its ``no_weight_decay()``, as
    timm's networks do.

    Args:
        module: A network, or a part of one that has the names of the whole.
    """
    excepted = list(_excepted(module))
    return {
        id(parameter)
        for owner, part in module.named_modules()
        if not _scales(part)
        for name, parameter in part.named_parameters(owner, recurse=False)
        if "weight" in name.rpartition(".")[2]
        and parameter.ndim > 1
        and not any(fnmatch.fnmatchcase(name, pattern) for pattern in excepted)
    }


def _scales(module: nn.Module) -> bool:
    """Whether its weight is looked up, or scales what it has normalised; but for these, such a weight has one dimension."""
    return isinstance(module, nn.Embedding) or hasattr(module, "normalized_shape")


def _excepted(module: nn.Module) -> Iterator[str]:
    """Patterns of the names that the network and its parts except."""
    for owner, part in module.named_modules():
        own = getattr(part, "no_weight_decay", None)
        if callable(own):
            yield from (f"{owner}.{name}" if owner else name for name in own())
