"""What features are computed on, in words: measured times mean nothing without it."""

import os
import platform
from pathlib import Path

__all__ = ["describe_machine"]

_CPUINFO = Path("/proc/cpuinfo")


def describe_machine(device: str) -> str:
    """Name of the GPU, or of the processor and how many of its cores this process may use.

    Args:
        device: ``cpu``, ``cuda`` or ``mps``.
    """
    if device == "cuda":
        import torch

        return str(torch.cuda.get_device_name())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processor = f"{_processor()}, {cores} core{'s' * (cores > 1)}"
    return processor if device == "cpu" else f"{processor}, {device}"


def _processor() -> str:
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
