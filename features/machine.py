"""Description of the machine that computes features, recorded next to measured times."""

from frostline.system.resources import processor_name, usable_cores


def describe_machine(device: str) -> str:
    """Return the name of the GPU, or of the processor with the number of cores that this process may use.

    Args:
        device: ``cpu``, ``cuda`` or ``mps``.
    """
    if device == "cuda":
        import torch

        return str(torch.cuda.get_device_name())
    cores = usable_cores()
    processor = f"{processor_name()}, {cores} core{'s' * (cores > 1)}"
    return processor if device == "cpu" else f"{processor}, {device}"
