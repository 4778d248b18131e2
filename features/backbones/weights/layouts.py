"""Places in a checkpoint where the tensors of a network may lie: containers and prefixes of names."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

# Parts of names that wrappers of torch insert: data parallelism, compilation, sharding, recomputed activations.
_WRAPPERS = ("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
# If several places fit, the first of these is used: moving averages, which training scripts evaluate, then the trained
# network, then the part of a self-supervised training that its authors evaluate.
_FIRST = (
    "state_dict_ema",
    "model_ema",
    "state_dict",
    "model",
    "ema_state_dict",
    "ema_model",
    "ema",
    "teacher",
    "model_state_dict",
    "net",
    "network",
    "weights",
    "params",
    "encoder_q",
    "base_encoder",
    "online_encoder",
    "online_network",
    "backbone",
    "encoder",
    "visual",
)
_LAST = ("student", "encoder_k", "momentum_encoder", "target_encoder", "target_network")
_SHARE = 0.5  # of the network's tensors, that a place must hold


@dataclass(frozen=True)
class Layout:
    """Place of a network's tensors in a file.

    Attributes:
        prefix: Common start of their names in the file, ending in a dot; empty for none. Containers count as parts
            of names: ``state_dict.model.``.
        wrappers: Parts that wrappers of torch inserted into names, ending in a dot, without which `state` is named.
        state: Tensors by the rest of the name.
    """

    prefix: str
    wrappers: tuple[str, ...]
    state: Mapping[str, Tensor]

    @property
    def place(self) -> str:
        """Description of the prefix in error messages; empty for none."""
        return f", tensors under {self.prefix!r}," if self.prefix else ""


def layouts(tensors: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> list[Layout]:
    """Return the places that may hold the tensors of a network, preferred ones first.

    Args:
        tensors: Tensors of the file. Names of containers are parts of their names.
        ours: Tensors of the network.

    Returns:
        One or more places. The first is the file itself if no place holds enough tensors.
    """
    unwrapped, wrappers = _unwrapped(tensors, ours)
    counts = Counter(prefix for key in unwrapped for prefix in _prefixes(key))
    needed = _SHARE * sum(not key.endswith("num_batches_tracked") for key in ours)
    found = sorted((prefix for prefix, count in counts.items() if count >= needed), key=preference)
    return [
        Layout(
            prefix,
            wrappers,
            {key.removeprefix(prefix): tensor for key, tensor in unwrapped.items() if key.startswith(prefix)},
        )
        for prefix in found or [""]
    ]


def preference(prefix: str) -> tuple[int, ...]:
    """Return the sort key of a place: the preferred ones come first."""
    return tuple(_rank(part) for part in prefix.split(".")[:-1])


def _rank(name: str) -> int:
    if name in _FIRST:
        return _FIRST.index(name)
    return len(_FIRST) + (1 + _LAST.index(name) if name in _LAST else 0)


def _prefixes(key: str) -> list[str]:
    """Return the empty prefix and every prefix of a name that ends in a dot."""
    return ["", *(key[: position + 1] for position, character in enumerate(key) if character == ".")]


def _unwrapped(
    tensors: Mapping[str, Tensor], ours: Mapping[str, Tensor]
) -> tuple[Mapping[str, Tensor], tuple[str, ...]]:
    """Return the tensors by names without the parts of wrappers, and these parts."""
    known = {part for key in ours for part in key.split(".")}
    present = {part for key in tensors for part in key.split(".")[:-1]}
    parts = [part for part in _WRAPPERS if part in present - known]
    renamed = {
        ".".join(part for part in key.split(".") if part not in parts): tensor
        for key, tensor in tensors.items()
    }
    if not parts or len(renamed) < len(tensors):  # two networks that only a wrapper's name tells apart
        return tensors, ()
    return renamed, tuple(f"{part}." for part in parts)
