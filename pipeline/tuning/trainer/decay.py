"""Selection of the parameters that weight decay applies to."""

import fnmatch
from collections.abc import Iterator

from torch import nn


def decaying(module: nn.Module) -> set[int]:
    """Return the ids of the parameters that decay: the weights that multiply the inputs of layers.

    These are the weights of linear, convolutional, recurrent and attention layers: they have two dimensions or
    more and ``weight`` in their names (``weight``, ``in_proj_weight``, ``weight_hh_l0``). Biases, normalisation,
    layer scales, tokens, position embeddings and tables of relative positions are exempt, and so are parameters
    listed by a ``no_weight_decay()`` method of the network, as in timm.

    Args:
        module: A network, or a part of one that has the parameter names of the whole.
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
    """Return whether the weight is an embedding or a normalisation scale, which may have two dimensions or more."""
    return isinstance(module, nn.Embedding) or hasattr(module, "normalized_shape")


def _excepted(module: nn.Module) -> Iterator[str]:
    """Yield the name patterns listed by ``no_weight_decay()`` of the network and its parts."""
    for owner, part in module.named_modules():
        own = getattr(part, "no_weight_decay", None)
        if callable(own):
            yield from (f"{owner}.{name}" if owner else name for name in own())
