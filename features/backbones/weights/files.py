"""Reading of weights files, without running code from them."""

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from frostline.features.backbones.weights.errors import first_line
from frostline.features.backbones.weights.kinds import describe_kind
from frostline.features.errors import WeightsError
from frostline.files.tensors import read_tensors
from frostline.shell import shell_command
from frostline.system.files import open_regular

_TORCH_MAGIC = (b"PK\x03\x04", b"\x80")  # zip archive, or a pickle
_MAX_LEVELS = 32  # of containers; checkpoints have a few
_OPTIMISER = re.compile(
    "optim(?!al)|sched|scaler", re.IGNORECASE
)  # parts of a checkpoint that hold no weights
# Writes all tensors of a checkpoint, also of whole modules and as NumPy arrays, under names that keep its layout.
_RECIPE = (
    "import sys, torch, safetensors.torch as s; "
    "f = lambda o, p='': {k: t for n, v in o.items() if 'optimi' not in str(n) for k, t in f(v, f'{p}{n}.').items()} "
    "if hasattr(o, 'items') else f(o.state_dict(), p) if hasattr(o, 'state_dict') else "
    "{p[:-1]: torch.as_tensor(o).detach().clone().contiguous()} "
    "if p and (torch.is_tensor(o) or type(o).__name__ == 'ndarray') else {}; "
    "s.save_file(f({load}), 'weights.safetensors')"
)
_LOAD = "torch.load(sys.argv[1], map_location='cpu', weights_only=False)"
_LOAD_PICKLE = (
    "__import__('numpy').load(sys.argv[1], allow_pickle=True, encoding='latin1')"  # torch can't read it
)
_PICKLED_BY_TORCH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # before 1.6: the magic number, pickled


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read all tensors of a safetensors or torch file. No code in the file is run.

    Containers of a checkpoint become parts of names, ``state_dict.conv1.weight``. What is not a tensor is left out,
    and so is the state of an optimizer.

    Returns:
        Tensors by name, one or more.

    Raises:
        WeightsError: The file is missing, has another format, or holds no tensors.
    """
    try:
        if kind := describe_kind(path):
            raise WeightsError(f"weights {path}: expected a safetensors or torch file, got {kind}")
        with open(open_regular(path), "rb") as file:  # noqa: PTH123  # a descriptor
            head, size = file.read(9), file.seek(0, 2)
            is_torch = head.startswith(_TORCH_MAGIC) and not _is_safetensors(head, size)
            loaded = _read_torch(file, path) if is_torch else _read_safetensors(path)
    except OSError as error:
        raise WeightsError(f"weights {path}: {error.strerror or error}; expected a file") from error
    if not isinstance(loaded, Mapping) or not loaded:
        raise WeightsError(
            f"weights {path}: a {type(loaded).__name__}; expected a state dict: names to tensors"
        )
    tensors: dict[str, Tensor] = {}
    for name, tensor in _tensors(loaded, "", path):
        if name in tensors:
            raise WeightsError(
                f"weights {path}: two tensors have the name {name!r}, as a text and as a number; expected each name once"
            )
        tensors[name] = check_tensor(name, tensor, path, size)
    if not tensors:
        name, value = next(iter(loaded.items()))
        raise WeightsError(
            f"weights {path}: {name!r} is a {type(value).__name__}, and no other entry holds tensors; expected a state "
            "dict of tensors, in a container or not"
        )
    return tensors


def read_torch_objects(path: str | Path) -> object:
    """Return what a torch file holds: tensors, numbers, texts, and containers of these. No code in the file is run.

    Tensors of a file of torch 1.6 or later are mapped from it, not read.

    Raises:
        WeightsError: The file is damaged, has another format, or holds other objects.
        OSError: The file can't be read.
    """
    if kind := describe_kind(path):
        raise WeightsError(f"{path}: expected a torch file, got {kind}")
    with open(open_regular(path), "rb") as file:  # noqa: PTH123  # a descriptor
        if not file.read(4).startswith(_TORCH_MAGIC):
            raise WeightsError(f"{path}: is no torch file; expected what torch.save writes")
        try:
            return _read_torch(file, path, mapped=zipfile.is_zipfile(file))
        except OSError as error:  # a place in the file that no file has
            raise WeightsError(f"{path}: a damaged torch file ({first_line(error)})") from error


def check_tensor(name: str, tensor: Tensor, path: str | Path, size: int) -> Tensor:
    """Return a tensor of a file as one of plain numbers.

    Args:
        name: Name of the tensor, for messages.
        tensor: The tensor.
        path: Path of the file.
        size: Size of the file in bytes.

    Raises:
        WeightsError: It has no values, or more numbers than its file has bits.
    """
    _check_numbers(name, tensor, path, size)
    return _with_values(name, tensor, path)


def _is_safetensors(head: bytes, size: int) -> bool:
    """Return whether a file begins as safetensors does, with the length of a JSON object; it may look like a pickle."""
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") < size


def _tensors(
    loaded: Mapping[object, object], prefix: str, path: str | Path, level: int = 1
) -> Iterator[tuple[str, Tensor]]:
    if level > _MAX_LEVELS:  # also a container that holds itself
        raise WeightsError(
            f"weights {path}: its containers are nested more than {_MAX_LEVELS} levels deep; expected a state dict"
        )
    for name, value in loaded.items():
        if isinstance(value, Tensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, Mapping) and not _OPTIMISER.search(str(name)):
            yield from _tensors(value, f"{prefix}{name}.", path, level + 1)


def _check_numbers(name: str, tensor: Tensor, path: str | Path, size: int) -> None:
    """Refuse a tensor with more numbers than its file has bits: computing with it could take any amount of memory."""
    is_plain = tensor.layout == torch.strided and not tensor.is_meta
    if is_plain and tensor.numel() > 8 * size:
        raise WeightsError(
            f"weights {path}: {name} has {tensor.numel():,} numbers in a file of {size:,} bytes, so it repeats them; expected"
            f" a plain tensor: save {name}.contiguous()"
        )


def _with_values(name: str, tensor: Tensor, path: str | Path) -> Tensor:
    """Return a tensor as one of plain numbers."""
    if tensor.is_meta or tensor.is_nested:
        kind = "has a shape but no values (device 'meta')" if tensor.is_meta else "is nested"
        raise WeightsError(
            f"weights {path}: {name} {kind}; expected numbers. Save the state_dict() of the network after its weights"
            " are loaded"
        )
    return tensor.dequantize() if tensor.is_quantized else tensor


def _read_safetensors(path: str | Path) -> object:
    try:
        return load_safetensors(read_tensors(path))
    except (
        SafetensorError,
        LookupError,
        TypeError,
        ValueError,
        RuntimeError,
    ) as error:  # also of unknown types
        raise WeightsError(
            f"weights {path}: neither a safetensors file ({error}) nor a torch file; expected one of the two"
        ) from error


def _read_torch(file: BinaryIO, path: str | Path, *, mapped: bool = False) -> object:
    """Read a torch file. An open file is read by its content; by its path, torch would go by its suffix.

    Only a path can be mapped.
    """
    try:
        _check_records(file, path)
        file.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about pickle protocols that torch then rejects
            source = str(path) if mapped else file
            return torch.load(source, map_location="cpu", weights_only=True, mmap=mapped or None)
    except pickle.UnpicklingError as error:
        raise WeightsError(_refusal(path, error)) from error
    except (OSError, WeightsError):
        raise
    except Exception as error:  # torch's reader can raise anything for damaged bytes
        raise WeightsError(
            f"weights {path}: a damaged torch file ({first_line(error)}); download it again"
        ) from error


def _check_records(file: BinaryIO, path: str | Path) -> None:
    """Compare the parts of a torch file with their checksums, which torch writes, but does not look at.

    Files before torch 1.6 have none, and `torch.serialization.set_crc32_options` leaves them out as zeros.
    """
    file.seek(0)
    try:
        archive = zipfile.ZipFile(file)
    except (
        zipfile.BadZipFile,
        ValueError,
        NotImplementedError,
    ):  # of the earlier format, or damaged: torch says how
        return
    if not any(record.CRC for record in archive.infolist()):
        return
    try:
        damaged = archive.testzip()
        reason = f"{damaged} doesn't have its checksum" if damaged else ""
    except (zipfile.BadZipFile, RuntimeError, ValueError, EOFError, NotImplementedError, OSError) as error:
        reason = first_line(error)
    if reason:
        raise WeightsError(f"weights {path}: a damaged torch file ({reason}); download it again")


def _refusal(path: str | Path, error: Exception) -> str:
    with Path(path).open("rb") as file:
        head = file.read(len(_PICKLED_BY_TORCH))
    by_torch = head.startswith(_TORCH_MAGIC[0]) or head == _PICKLED_BY_TORCH
    recipe = _RECIPE.replace("{load}", _LOAD if by_torch else _LOAD_PICKLE)
    found = re.search(r"(?:GLOBAL|global) (\S+)", str(error))
    needs = f" ({found[1]})" if found else ""
    return (
        f"weights {path}: holds Python objects besides tensors{needs}, and reading those can run any code; expected "
        "tensors only. If you trust the author of the file, convert it once with save_file of safetensors: "
        f"{shell_command('python', '-c', recipe, Path(path))}"
    )
