"""What computing costs in energy, where the machine counts it."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

_POWERCAP = Path("/sys/class/powercap")


class EnergyMeter:
    """Counts the energy of the machine's processors, and of the GPU that computes, whoever makes them work.

    Processors are read from Linux's powercap (RAPL: Intel and AMD; often for root alone), an NVIDIA GPU by NVML, where the
    package nvidia-ml-py is installed.

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
        """Energy since the last call, or since the meter was made; 0 where nothing is counted."""
        now = [read() for read, _ in self._counters]
        spans = [span for _, span in self._counters]
        used = [(new - old) % span for new, old, span in zip(now, self._last, spans, strict=True)]
        self._last = now
        return float(sum(used))


_Counter = tuple[Callable[[], float], float]  # joules so far, and where it begins again from 0


def _zone(folder: Path) -> _Counter | None:
    file = folder / "energy_uj"
    try:
        span = float((folder / "max_energy_range_uj").read_text()) / 1e6
        file.read_text()
    except (OSError, ValueError):  # not for this user, or not there
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
    except nvml.NVMLError:  # a GPU before Volta, or a part of one
        return None
    return lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3, float("inf")
