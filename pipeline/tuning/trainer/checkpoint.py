"""Checkpoints of a training: tensors and a JSON state in one safetensors file, written atomically."""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.optim import Optimizer

from frostline.pipeline.errors import FinetuneError
from frostline.system.atomic import replace_file

_STATE = "state"


@dataclass(frozen=True)
class Checkpoint:
    """A saved state of a training.

    Attributes:
        tensors: Tensors by name.
        state: JSON document.
    """

    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names begin with ``PREFIX.``, by the rest of the name."""
        start = f"{prefix}."
        return {
            name.removeprefix(start): each for name, each in self.tensors.items() if name.startswith(start)
        }


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically: an interruption leaves either the old file or the new one."""
    # safetensors requires contiguous tensors that do not share memory
    cpu = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    replace_file(path, save(cpu, metadata={_STATE: json.dumps(state)}))


def load_checkpoint(path: Path) -> Checkpoint | None:
    """Read a checkpoint; return None if the file does not exist.

    Raises:
        FinetuneError: The file is damaged.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
            return Checkpoint(tensors, json.loads(file.metadata()[_STATE]))
    except (SafetensorError, KeyError, TypeError, ValueError, struct.error, OSError) as error:
        raise FinetuneError(
            f"the checkpoint {path} is damaged ({error}); delete it, or start over with --restart"
        ) from error


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Return the state tensors of an optimizer, by ``NUMBER.NAME``."""
    state = optimizer.state_dict()["state"]
    return {
        f"{number}.{name}": value
        for number, values in state.items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore the state returned by `optimizer_tensors`."""
    document = optimizer.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = value.clone() if isinstance(value, torch.Tensor) else value
    optimizer.load_state_dict({**document, "state": state})
