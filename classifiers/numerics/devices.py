"""Where torch computes."""

import torch

from frostline.classifiers.errors import HeadError


def resolve_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is CUDA where there is one, else the CPU.

    Raises:
        HeadError: An unknown device, or one that this machine or this torch doesn't have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise HeadError(f"device: got {name!r}, expected auto, cpu, cuda, cuda:N or mps") from None
    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not here.get(device.type, False):
        raise HeadError(
            f"device: got {name!r}, which torch {torch.__version__} can't use here; use auto or cpu"
        )
    return device
