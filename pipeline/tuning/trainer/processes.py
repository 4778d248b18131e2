"""Processes that train together, as started by torchrun or accelerate; a single one otherwise."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from frostline.features.spec import Precision
from frostline.pipeline.errors import FinetuneError

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process within the group of processes that train together.

    Attributes:
        rank: Rank of this process, from 0.
        count: Number of processes.
        device: Device of this process.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes files and reports progress."""
        return self.rank == 0

    def precision(self, requested: str) -> Precision:
        """Return the number format of the passes on this device.

        Args:
            requested: A precision, or ``auto`` for bf16 on CUDA, fp16 on CUDA without bf16, and fp32 elsewhere.

        Raises:
            FinetuneError: The device does not support training in this precision.
        """
        cuda = self.device.type == "cuda"
        if requested == "fp16" and not cuda:
            raise FinetuneError(
                f"precision 'fp16' trains on CUDA only, not on {self.device.type}; expected auto, fp32 or bf16"
            )
        if requested != "auto":
            return cast("Precision", requested)
        if not cuda:
            return "fp32"
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"

    def wait(self) -> None:
        """Wait until all processes have reached this point."""
        if self.count > 1:
            distributed.barrier()

    def shared(self, value: T | None) -> T:
        """Return the value of the process that leads."""
        values = [value]
        if self.count > 1:
            distributed.broadcast_object_list(values)
        return cast("T", values[0])

    def total(self, sums: Tensor) -> Tensor:
        """Return the sum over all processes."""
        if self.count > 1:
            distributed.all_reduce(sums)
        return sums

    def share(self, module: nn.Module) -> nn.Module:
        """Wrap `module` so that all processes train it together, with equal weights and averaged gradients."""
        if self.count == 1 or not any(parameter.requires_grad for parameter in module.parameters()):
            return module
        if self.device.type == "cuda":
            module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
            return DistributedDataParallel(module, device_ids=[self.device.index])
        return DistributedDataParallel(module)


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Join the process group given by the environment for the duration of the block.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``; on CUDA each process of a machine uses the GPU of its
            ``LOCAL_RANK``.

    Raises:
        FinetuneError: The device is not available.
    """
    count, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    torch_device = _torch_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if count == 1:
        yield Processes(0, 1, torch_device)
        return
    options: dict[str, Any] = {"device_id": torch_device} if torch_device.type == "cuda" else {}
    distributed.init_process_group("nccl" if torch_device.type == "cuda" else "gloo", **options)
    try:
        yield Processes(rank, count, torch_device)
    finally:
        distributed.destroy_process_group()


def _torch_device(device: str, local_rank: int) -> torch.device:
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    chosen = next(name for name, usable in available.items() if usable) if device == "auto" else device
    if not available.get(chosen, False):
        expected = ", ".join(name for name, usable in available.items() if usable)
        raise FinetuneError(
            f"device {device!r} isn't available to torch {torch.__version__} here; expected auto, {expected}"
        )
    if chosen != "cuda":
        return torch.device(chosen)
    if local_rank >= torch.cuda.device_count():
        raise FinetuneError(
            f"process {local_rank} of this machine has no GPU of its own: there are {torch.cuda.device_count()} GPUs;"
            " start fewer processes with --nproc-per-node"
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)
