"""Selection of the torch device."""

import torch

from frostline.errors import FrostlineError, OptionError
from frostline.system.resources import total_memory


def resolve_device(name: str, error: type[FrostlineError] = OptionError) -> torch.device:
    """Return the torch device of a name; ``auto`` is CUDA if available, otherwise the CPU.

    Args:
        name: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        error: Class of the error that is raised.

    Raises:
        FrostlineError: An `error`. The device is unknown, or not available on this machine or in this build of torch.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise error(f"device: got {name!r}, expected auto, cpu, cuda, cuda:N or mps") from None
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device.type, False):
        raise error(f"device: got {name!r}, which torch {torch.__version__} can't use here; use auto or cpu")
    return device


def device_memory(device: torch.device) -> int | None:
    """Return the whole memory of a device in bytes, that of the machine for a CPU; None where it is not reported."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return total_memory()
