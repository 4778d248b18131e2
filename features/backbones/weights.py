"""Weight files: safe loading without running code, key matching, and fingerprints."""

import hashlib
import pickle
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from frostline.features.errors import WeightsError
from frostline.features.system.files import open_regular

# Keys under which training scripts store a state dict. Moving averages come first, because scripts evaluate those.
_CONTAINERS = ("state_dict_ema", "model_ema", "state_dict", "model")
_WRAPPERS = ("module.", "_orig_mod.")  # DistributedDataParallel, torch.compile
_TORCH_MAGIC = (b"PK\x03\x04", b"\x80")  # zip archive, or a bare pickle of torch before 1.6
_SHOWN = 10


def seed_of_random_weights(weights: str | Path | None) -> int | None:
    """Return the seed of ``random`` (0) or ``random:SEED``; None for any other value."""
    found = re.fullmatch(r"random(?::(\d+))?", weights) if isinstance(weights, str) else None
    return int(found[1] or 0) if found else None


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the CPU's random generator temporarily, and restore the caller's state afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def fingerprint(module: nn.Module) -> str:
    """Return the SHA-256 digest of name, dtype, shape and bytes of all parameters and persistent buffers.

    Tensors are sorted by name. The digest doesn't depend on the device or the memory format.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_file(module: nn.Module, path: str | Path, *, classifier: Iterable[str] = ()) -> bool:
    """Load a weight file into `module`.

    Args:
        module: Module with exactly the architecture of the file.
        path: Path of a safetensors or torch file.
        classifier: Names of modules that may be missing in the file or have another shape there.

    Returns:
        Whether the classifier was loaded as well.

    Raises:
        WeightsError: The file can't be read, or has another architecture.
    """
    return match(module, read_weights(path), where=str(path), classifier=classifier)


def download_error(name: str, origin: str, error: Exception, remedy: str) -> WeightsError:
    """Return the error for pretrained weights that can't be downloaded, with the location tried and a remedy."""
    return WeightsError(
        f"backbone {name}: its pretrained weights can't be loaded from {origin} ({type(error).__name__}: "
        f"{_first_line(error)}). {remedy}"
    )


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors or torch file. No code in the file is run.

    State dicts inside the containers of common training scripts are unwrapped, and a ``module.`` prefix of all
    keys is removed.

    Raises:
        WeightsError: The file is missing, has another format, or holds other objects than tensors.
    """
    try:
        with open(open_regular(path), "rb") as file:  # noqa: PTH123  # a descriptor
            magic = file.read(4)
        loaded = _read_torch(path) if magic.startswith(_TORCH_MAGIC) else _read_safetensors(path)
    except OSError as error:
        raise WeightsError(f"weights {path}: {error.strerror or error}; expected a file") from error
    return _unwrapped(_state_dict(loaded, path))


def _read_safetensors(path: str | Path) -> object:
    try:
        return load_safetensors(Path(path).read_bytes())
    except SafetensorError as error:
        raise WeightsError(
            f"weights {path}: neither a safetensors file ({error}) nor a torch file; expected one of the two"
        ) from error


def _read_torch(path: str | Path) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about pickle protocols that torch then rejects
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(_refusal(path, error)) from error
    except OSError:
        raise
    except Exception as error:  # torch's reader can raise anything for damaged bytes
        raise WeightsError(
            f"weights {path}: a damaged torch file ({_first_line(error)}); download it again"
        ) from error


def _refusal(path: str | Path, error: Exception) -> str:
    found = re.search(r"(?:GLOBAL|global) (\S+)", str(error))
    needs = f" ({found[1]})" if found else ""
    return (
        f"weights {path}: holds Python objects besides tensors{needs}, and reading those can run any code; expected "
        'tensors only. If you trust the author of the file, convert it once: python -c "import torch; from '
        f"safetensors.torch import save_file; c = torch.load('{path}', map_location='cpu', weights_only=False); "
        "c = c.get('state_dict', c.get('model', c)); "
        "save_file({k: v.contiguous() for k, v in c.items()}, 'weights.safetensors')\""
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _state_dict(loaded: object, path: str | Path) -> Mapping[str, Tensor]:
    if isinstance(loaded, Mapping):
        loaded = next((loaded[key] for key in _CONTAINERS if isinstance(loaded.get(key), Mapping)), loaded)
    if not isinstance(loaded, Mapping) or not loaded:
        raise WeightsError(
            f"weights {path}: a {type(loaded).__name__}; expected a state dict: names to tensors"
        )
    for key, value in loaded.items():
        if not isinstance(value, Tensor):
            raise WeightsError(
                f"weights {path}: {key!r} is a {type(value).__name__}; expected a state dict of tensors alone, "
                f"or one under {', '.join(map(repr, _CONTAINERS))}"
            )
    return loaded


def _unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if all(key.startswith(wrapper) for key in state):
            state = {key.removeprefix(wrapper): value for key, value in state.items()}
    return dict(state)


def match(
    module: nn.Module, state: Mapping[str, Tensor], *, where: str, classifier: Iterable[str] = ()
) -> bool:
    """Load `state` into `module`, key by key.

    Args:
        module: Module that receives the weights.
        state: Tensors by name.
        where: Name of the weights in error messages.
        classifier: Names of modules whose keys may be missing or have another shape.

    Returns:
        Whether the classifier was loaded as well. If not, no part of it was.

    Raises:
        WeightsError: Keys are missing or unexpected, or shapes differ. The message lists them, and nothing is
            loaded.
    """
    ours = module.state_dict()
    differences = _Differences.between(ours, state)
    heads = tuple(f"{name}." for name in classifier)
    whole = not any(key.startswith(heads) for key in (*differences.missing, *differences.reshaped))
    if not whole:
        differences = differences.outside(heads)
        state = {key: value for key, value in state.items() if not key.startswith(heads)}
    if problems := differences.describe():
        raise WeightsError(
            f"weights {where} don't fit this backbone, which has {len(ours)} tensors: {problems}. "
            "Use the backbone that the weights were saved from, or rename the keys"
        )
    load_tensors(module, state, strict=False)
    return whole


@dataclass(frozen=True)
class _Differences:
    """Differences between weights and a module's state.

    Attributes:
        missing: Keys that are missing in the weights.
        unexpected: Keys that the module does not have.
        reshaped: Keys with different shapes, and a description of both shapes.
    """

    missing: Sequence[str]
    unexpected: Sequence[str]
    reshaped: Mapping[str, str]

    @classmethod
    def between(cls, ours: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Self:
        # The batch counter matters only in training, and files of early torch versions lack it.
        missing = [key for key in ours if key not in state and not key.endswith("num_batches_tracked")]
        shapes = {key: (tuple(state[key].shape), tuple(ours[key].shape)) for key in ours if key in state}
        return cls(
            missing=missing,
            unexpected=[key for key in state if key not in ours],
            reshaped={
                key: f"{key} {got}, expected {wanted}"
                for key, (got, wanted) in shapes.items()
                if got != wanted
            },
        )

    def outside(self, modules: tuple[str, ...]) -> Self:
        """Return the differences without those missing or reshaped keys that belong to some modules."""
        missing = [key for key in self.missing if not key.startswith(modules)]
        reshaped = {key: text for key, text in self.reshaped.items() if not key.startswith(modules)}
        return replace(self, missing=missing, reshaped=reshaped)

    def describe(self) -> str:
        """Return a description of the differences; empty for none."""
        problems = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "of another shape": list(self.reshaped.values()),
        }
        return "; ".join(f"{len(keys)} {what}: {_some(keys)}" for what, keys in problems.items() if keys)


def load_tensors(module: nn.Module, state: Mapping[str, Tensor], *, strict: bool = True) -> None:
    """Load parameters and buffers by name, like `torch.nn.Module.load_state_dict`.

    A safetensors file holds only names and tensors. Its state is assumed to have the versions of the module's own
    submodules, because modules such as torchvision's MNASNet reject a state dict without versions.

    Args:
        module: Module that receives the tensors.
        state: Tensors by name.
        strict: Whether a missing name is an error as well.

    Raises:
        RuntimeError: Names or shapes differ.
    """
    versioned = module.state_dict()
    for name in [*versioned] if strict else ():
        if name not in state:
            del versioned[name]
    versioned.update(state)
    module.load_state_dict(versioned)


def _some(keys: Sequence[str]) -> str:
    return ", ".join(keys[:_SHOWN]) + (", ..." if len(keys) > _SHOWN else "")
