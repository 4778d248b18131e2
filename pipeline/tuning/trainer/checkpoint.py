"""Checkpoints of a training: tensors and a JSON state in one safetensors file, written atomically."""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.optim import Optimizer

from frostline.pipeline.errors import FinetuneError
from frostline.system.atomic import replace_file
from frostline.system.files import check_regular

_STATE, _DIGEST = "state", "xxh3"


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
    text = json.dumps(state)
    replace_file(path, save(cpu, metadata={_STATE: text, _DIGEST: _digest(cpu, text)}))


def load_checkpoint(path: Path) -> Checkpoint | None:
    """Read a checkpoint; return None if the file does not exist.

    Raises:
        FinetuneError: The file is damaged, or can't be read.
    """
    try:
        check_regular(path)
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
            metadata = file.metadata()
        text, digest = metadata[_STATE], metadata.get(_DIGEST)
        if digest is not None and digest != _digest(tensors, text):  # earlier versions wrote none
            raise damaged(path, "its digest differs from the one written")
        state = json.loads(text)
    except FileNotFoundError:
        return None
    except (
        SafetensorError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
        struct.error,
        OSError,
    ) as error:
        raise damaged(path, error) from error
    if not isinstance(state, dict):
        raise damaged(path, f"its state is {type(state).__name__}, expected a JSON object")
    return Checkpoint(tensors, state)


def damaged(path: Path, problem: object) -> FinetuneError:
    """Return the error of a checkpoint that can't be used."""
    return FinetuneError(
        f"the checkpoint {path} is damaged ({problem}); delete it, or start over with --restart"
    )


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    """Return the digest of tensors, by name, and of a state."""
    digest = xxhash.xxh3_128(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


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
