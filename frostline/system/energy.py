"""Energy used for computing, where the machine reports it."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

_POWERCAP = Path("/sys/class/powercap")


class EnergyMeter:
    """Meter of the energy used by the machine's processors and by the GPU in use, over all processes.

    Processors are read through Linux's powercap interface (RAPL, for Intel and AMD; often readable by root only).
    An NVIDIA GPU is read through NVML, which needs the package nvidia-ml-py.

    Args:
        device: ``cpu``, ``cuda`` or ``mps``.
    """

    def __init__(self, device: str) -> None:
        zones = sorted(_POWERCAP.glob("intel-rapl:[0-9]")) + sorted(_POWERCAP.glob("intel-rapl:[0-9][0-9]"))
        counters = [counter for zone in zones if (counter := _zone(zone))]
        if device == "cuda" and (gpu := _gpu()):
            counters.append(gpu)
        self._counters = counters
        self._last = [read() for read, _ in counters]

    def joules(self) -> float:
        """Return the energy in joules since the last call, or since construction; 0 without any counter."""
        now = [read() for read, _ in self._counters]
        spans = [span for _, span in self._counters]
        used = [(new - old) % span for new, old, span in zip(now, self._last, spans, strict=True)]
        self._last = now
        return float(sum(used))


_Counter = tuple[
    Callable[[], float], float
]  # function that returns joules so far, and the value at which the counter wraps to 0


def _zone(folder: Path) -> _Counter | None:
    file = folder / "energy_uj"
    try:
        span = float((folder / "max_energy_range_uj").read_text()) / 1e6
        file.read_text()
    except (OSError, ValueError):  # not readable by this user, or missing
        return None
    return lambda: float(file.read_text()) / 1e6, span


def _gpu() -> _Counter | None:
    import torch

    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
        device = torch.cuda.get_device_properties(torch.cuda.current_device())
        handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{device.uuid}")
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except nvml.NVMLError:  # a GPU older than Volta, or a MIG partition
        return None
    return lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3, float("inf")
