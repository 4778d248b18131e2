"""What features are computed on, in words: measured times mean nothing without it."""

from frostline.features.system.machine import processor_name, usable_cores


def describe_machine(device: str) -> str:
    """Name of the GPU, or of the processor and how many of its cores this process may use.

    Args:
        device: ``cpu``, ``cuda`` or ``mps``.
    """
    if device == "cuda":
        import torch

        return str(torch.cuda.get_device_name())
    cores = usable_cores()
    processor = f"{processor_name()}, {cores} core{'s' * (cores > 1)}"
    return processor if device == "cpu" else f"{processor}, {device}"
