"""Digest of the weights of a network."""

import hashlib

import torch
from torch import nn


def fingerprint(module: nn.Module) -> str:
    """Return the SHA-256 digest of name, dtype, shape and bytes of all parameters and persistent buffers.

    Tensors are sorted by name. The digest doesn't depend on the device or the memory format.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()
