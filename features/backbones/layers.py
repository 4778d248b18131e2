"""Discovery of a network's layers from one forward pass, and resolution of the layer names given by the user."""

import copy
import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from frostline.features.backbones.network import Network
from frostline.features.backbones.readout import EMBEDDING, LOGITS, Taps
from frostline.features.errors import BackboneError, LayerError
from frostline.features.spec import Layer

RESERVED = (EMBEDDING, LOGITS)

_POOLS = ("avg", "max", "gem", "none")
SAME_AS_INPUT = (nn.Identity, nn.Dropout, nn.Dropout2d)  # in a frozen network
_FIRST_AXIS = (nn.Conv2d, nn.BatchNorm2d)
_LAST_AXIS = (nn.Linear, nn.LayerNorm)
_BATCH = 2  # batch size of the discovery pass; a first axis of another length is not the batch
_SHOWN = 20


@dataclass(frozen=True)
class LayerInfo:
    """Description of a network output.

    Attributes:
        name: ``embedding``, ``logits``, or the module's name.
        kind: ``map`` (one vector per position), ``tokens`` or ``vector``.
        shape: Shape of the output for one image, in the network's memory layout.
        dim: Number of channels, which is the length of the pooled vector.
        pools: Supported pools, the default one first.
        channels_last: Whether a map is (h, w, c) rather than (c, h, w).
        prefix: Number of tokens before the patch tokens.
    """

    name: str
    kind: Literal["map", "tokens", "vector"]
    shape: tuple[int, ...]
    dim: int
    pools: tuple[str, ...]
    channels_last: bool = False
    prefix: int = 0

    @property
    def positions(self) -> tuple[int, ...]:
        """Dimensions of the batched output that a pool reduces."""
        if self.kind == "map":
            return (1, 2) if self.channels_last else (2, 3)
        return (1,) if self.kind == "tokens" else ()

    def pooled(self, pool: str) -> Layer:
        """Return this layer with a pool, which must be one of `pools`."""
        return Layer(self.name, pool, prod(self.shape) if pool == "none" else self.dim)


class _Shapes:
    """Taps that record the shape of each output and the number of calls of each module."""

    def __init__(self) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.calls: Counter[str] = Counter()
        self._muted = False
        self._last: object = None  # keeps a reference, so that `is` is reliable

    def wants(self, name: str) -> bool:  # noqa: ARG002  # the protocol's
        return True

    def put(self, name: str, output: object) -> None:
        self._last = output
        if self._muted:
            return
        self.calls[name] += 1
        if isinstance(output, Tensor) and output.is_floating_point():
            self.shapes[name] = tuple(output.shape)

    def put_new(self, name: str, output: object) -> None:
        """Record the output of a pass-through module unless the preceding module already returned it."""
        if output is not self._last:
            self.put(name, output)

    @contextmanager
    def muted(self) -> Iterator[None]:
        self._muted = True
        try:
            yield
        finally:
            self._muted = False


def discover(network: Network) -> dict[str, LayerInfo]:
    """Return the layers of `network` by name: embedding, logits, then modules in the order in which they finish.

    The layers are found in a forward pass on the shapes of two images. A module is a layer if it ran exactly once
    and returned one tensor per image: a map, tokens or a vector. An identity or dropout is a layer only if its
    output was not returned by another module, such as after the position embedding of a transformer.

    Raises:
        BackboneError: The network doesn't return one vector per image.
    """
    try:
        taps = _observed(network)
    except (NotImplementedError, TypeError) as error:  # timm's encoders for language models have no head
        raise BackboneError(f"the network can't be run from images to an embedding: {error}") from error
    parts = dict(network.module.named_modules())
    found = {
        name: _info(name, shape[1:], parts.get(name), network)
        for name, shape in taps.shapes.items()
        if taps.calls[name] == 1 and shape[0] == _BATCH
    }
    layers = {name: info for name, info in found.items() if info}
    embedding = layers.pop(EMBEDDING, None)
    if embedding is None or embedding.kind != "vector":
        got = taps.shapes.get(EMBEDDING, "no tensor")
        raise BackboneError(f"the network's embedding of {_BATCH} images is {got}; expected ({_BATCH}, dim)")
    logits = {LOGITS: layers.pop(LOGITS)} if LOGITS in layers else {}
    return {EMBEDDING: embedding, **logits, **layers}


def _observed(network: Network) -> _Shapes:
    try:
        return _watched(network, without_data(network.module))
    except (
        RuntimeError,
        TypeError,
        ValueError,
    ):  # the forward pass needs values; other errors are raised again below
        return _watched(network, network.module)


def without_data(module: nn.Module) -> nn.Module:
    """Return a copy on the meta device, with shapes but no values. It uses no memory and computes nothing."""
    tensors: list[Tensor] = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(tensor): _shape_only(tensor) for tensor in tensors})


def _shape_only(tensor: Tensor) -> Tensor:
    meta = tensor.detach().to("meta")
    return nn.Parameter(meta, requires_grad=False) if isinstance(tensor, nn.Parameter) else meta


def _watched(network: Network, module: nn.Module) -> _Shapes:
    taps = _Shapes()
    handles = network.readout.attach(module, taps)
    for name, part in module.named_modules():
        handles += _attached(module, name, taps.put_new if isinstance(part, SAME_AS_INPUT) else taps.put)
    parameter = next(module.parameters(), torch.empty(0))
    images = torch.zeros(_BATCH, 3, *network.transform.crop, device=parameter.device, dtype=parameter.dtype)
    try:
        with torch.inference_mode():
            network.readout.run(module, images, taps)
    finally:
        for handle in handles:
            handle.remove()
    return taps


def attach(module: nn.Module, taps: Taps, names: Iterable[str]) -> list[RemovableHandle]:
    """Register hooks that pass the outputs of the named modules to `taps`, and return their handles."""
    return [handle for name in names for handle in _attached(module, name, taps.put)]


def _attached(module: nn.Module, name: str, put: Callable[[str, object], None]) -> list[RemovableHandle]:
    def hook(_part: nn.Module, _inputs: object, output: object) -> None:
        put(name, output)

    if not name or name in RESERVED:
        return []
    return [module.get_submodule(name).register_forward_hook(hook)]


def _info(name: str, shape: tuple[int, ...], part: nn.Module | None, network: Network) -> LayerInfo | None:
    if len(shape) == 1:
        return LayerInfo(name, "vector", shape, shape[0], ("none",))
    if len(shape) == 2:
        tokens = network.tokens
        if tokens is None or shape[0] != tokens.length:
            return LayerInfo(name, "tokens", shape, shape[1], _POOLS)
        pools = ("cls", *_POOLS) if tokens.has_class else _POOLS
        return LayerInfo(name, "tokens", shape, shape[1], pools, prefix=tokens.prefix)
    if len(shape) == 3:
        last = _channels_last(shape, part, network)
        if last is not None:
            return LayerInfo(name, "map", shape, shape[2 if last else 0], _POOLS, channels_last=last)
    return None


def _channels_last(shape: tuple[int, ...], part: nn.Module | None, network: Network) -> bool | None:
    """Return whether a map is (h, w, c), judged by which sides have the input's aspect ratio; None for no map."""
    height, width = network.transform.crop

    def fits(h: int, w: int) -> bool:
        return h <= height and w <= width and abs(h * width - w * height) < max(height, width)

    first, last = fits(*shape[1:]), fits(*shape[:2])
    if first and last and isinstance(part, _FIRST_AXIS):
        return False
    if first and last:
        return network.channels_last or (
            isinstance(part, _LAST_AXIS) and not type(part).__name__.endswith("2d")
        )
    return last if first or last else None


def resolve(names: Sequence[str], layers: Mapping[str, LayerInfo]) -> tuple[Layer, ...]:
    """Resolve ``NAME`` or ``NAME:POOL`` to layers, in the order given and without duplicates.

    Raises:
        LayerError: `names` is empty, or a layer or pool is not available. The message lists valid ones.
    """
    if not names:
        raise LayerError(f"no layers given; expected some of {_suggestions('', layers)}")
    return tuple(dict.fromkeys(_resolved(name, layers) for name in names))


def _resolved(requested: str, layers: Mapping[str, LayerInfo]) -> Layer:
    name, _, pool = requested.partition(":")
    info = layers.get(name)
    if info is None:
        raise LayerError(
            f"layer {name!r}: this backbone has no such layer; expected {_suggestions(name, layers)}"
        )
    if pool and pool not in info.pools:
        shape = " x ".join(map(str, info.shape))
        raise LayerError(
            f"layer {name!r}: pool {pool!r} isn't supported for its {info.kind} ({shape}); expected "
            f"{', '.join(info.pools)}"
        )
    return info.pooled(pool or info.pools[0])


def _suggestions(name: str, layers: Mapping[str, LayerInfo]) -> str:
    near = difflib.get_close_matches(name, layers, n=5, cutoff=0.5)
    main = sorted(layers, key=lambda layer: (layer not in RESERVED, layer.count(".")))
    shown = list(dict.fromkeys([*near, *main]))[:_SHOWN]
    more = len(layers) - len(shown)
    return ", ".join(shown) + (f" or one of {more} modules inside these" if more else "")
