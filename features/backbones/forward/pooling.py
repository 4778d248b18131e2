"""Pooling of a layer's output to one vector per image."""

import torch
from torch import Tensor

POOLS = ("avg", "max", "gem", "cls", "none")

GEM_POWER = 3.0
GEM_EPSILON = 1e-6


def pool(output: Tensor, how: str, *, positions: tuple[int, ...] = (), prefix: int = 0) -> Tensor:
    """Reduce a layer's output to one float32 vector per image. The arithmetic is in float32 for all input dtypes.

    The result never shares memory with `output`, which a later layer may overwrite in place.

    Args:
        output: (batch, ...) of any floating-point dtype.
        how: One of `POOLS`. ``cls`` selects the first token, and ``none`` flattens the output.
        positions: Dimensions that ``avg``, ``max`` and ``gem`` pool over: (2, 3) for NCHW maps, (1, 2) for NHWC
            maps, (1,) for tokens.
        prefix: Number of leading tokens without a position in the image (class, distillation, registers). ``avg``,
            ``max`` and ``gem`` ignore them.

    Returns:
        (batch, dim) float32.

    Raises:
        ValueError: `how` is not in `POOLS`.
    """
    if how == "none":
        return output.to(torch.float32, copy=True).flatten(1)
    if how == "cls":
        return output[:, 0].to(torch.float32, copy=True)
    tokens = output[:, prefix:] if prefix else output
    if how == "avg":
        return tokens.mean(positions, dtype=torch.float32)
    if how == "max":
        return tokens.amax(positions).float()
    if how == "gem":
        return gem(tokens, positions)
    raise ValueError(f"pool {how!r}; expected one of {', '.join(POOLS)}")


def gem(output: Tensor, positions: tuple[int, ...]) -> Tensor:
    """Compute the generalised mean with p = 3 over `positions`.

    Values are clamped to at least 1e-6, as in the reference code. See Radenović, Tolias and Chum, "Fine-tuning CNN
    image retrieval with no human annotation", TPAMI 2018, equation 2.

    Args:
        output: Tensor of any floating-point dtype.
        positions: Dimensions to pool over.

    Returns:
        float32 tensor without the pooled dimensions.
    """
    return output.float().clamp(min=GEM_EPSILON).pow(GEM_POWER).mean(positions).pow(1 / GEM_POWER)
