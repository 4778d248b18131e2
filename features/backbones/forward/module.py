"""Module that computes feature vectors from uint8 pixels. An engine runs it as a whole."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import torch
from torch import Tensor, nn
from torch.jit._trace import is_tracing

from frostline.features.backbones.backbone import Backbone
from frostline.features.backbones.forward.folding import fold_batch_norms
from frostline.features.backbones.forward.normalisation import Normalise
from frostline.features.backbones.forward.pooling import pool
from frostline.features.backbones.layers import RESERVED, LayerInfo, attach
from frostline.features.errors import BackboneError
from frostline.features.spec import Layer


class _Complete(Exception):  # noqa: N818  # control flow, not an error
    """Signal that ends a forward pass after the last layer that is needed."""


class _Pooled:
    """Taps that pool the requested outputs immediately and stop the run after the last one.

    Outputs are pooled immediately because a later layer may overwrite them in place, and because a map is far
    larger than its pooled vector.
    """

    def __init__(self, layers: Sequence[Layer], infos: dict[str, LayerInfo]) -> None:
        self._wanted: dict[str, list[Layer]] = {}
        for layer in layers:
            self._wanted.setdefault(layer.name, []).append(layer)
        self._infos = infos
        self._muted = False
        self.found: dict[Layer, Tensor] = {}

    def wants(self, name: str) -> bool:
        return name in self._wanted

    def put(self, name: str, output: object) -> None:
        if self._muted or name not in self._wanted:
            return
        if not isinstance(output, Tensor):
            raise BackboneError(f"layer {name!r} returned a {type(output).__name__}; expected one tensor")
        info = self._infos[name]
        for layer in self._wanted[name]:
            self.found[layer] = pool(output, layer.pool, positions=info.positions, prefix=info.prefix)
        if len(self.found) == sum(map(len, self._wanted.values())) and _runs_eagerly():
            raise _Complete

    @contextmanager
    def muted(self) -> Iterator[None]:
        self._muted = True
        try:
            yield
        finally:
            self._muted = False


def _runs_eagerly() -> bool:
    # Compilers remove unused operations themselves, and can't follow the exception.
    return not (torch.compiler.is_compiling() or is_tracing())  # type: ignore[no-untyped-call]


class FeatureModule(nn.Module):
    """Module that maps uint8 pixels (b, h, w, 3) to one float32 tensor (b, dim) per layer, including normalisation.

    It runs a copy of the backbone's network and stops after the last requested layer.

    Args:
        backbone: Backbone that computes the features.
        layers: Layers from `Backbone.resolve_layers`; at least one.
        fold: Whether to fold batch normalisations into the preceding convolutions, which changes a feature vector
            by about 1e-6 of its norm.
    """

    def __init__(self, backbone: Backbone, layers: Sequence[Layer], *, fold: bool = False) -> None:
        super().__init__()
        self.layers = tuple(layers)
        names = frozenset(layer.name for layer in layers) - {*RESERVED}
        self.network = copy.deepcopy(backbone.module)
        if fold:
            fold_batch_norms(self.network, backbone.transform.crop, names)
        self._readout = backbone.network.readout
        self._taps = _Pooled(layers, backbone.layers())
        self._readout.attach(self.network, self._taps)
        attach(self.network, self._taps, names)
        self.normalise = Normalise(backbone.transform)
        super().train(mode=False)
        self.requires_grad_(requires_grad=False)

    def train(self, mode: bool = True) -> "FeatureModule":
        """Set evaluation mode. Training mode is not supported.

        Raises:
            RuntimeError: `mode` is True, although a backbone is frozen.
        """
        if mode:
            raise RuntimeError(
                "a backbone is frozen: it has no training mode; fine-tune a copy of Backbone.module"
            )
        return super().train(mode=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Compute the features.

        Args:
            pixels: (b, h, w, 3) uint8 RGB.

        Returns:
            One float32 tensor (b, dim) per layer, in the order of `layers`.
        """
        # NHWC pixels viewed as NCHW are in channels_last memory format, which is fastest for convolutions.
        images = self.normalise(pixels.permute(0, 3, 1, 2))
        self._taps.found.clear()
        with suppress(_Complete):
            self._readout.run(self.network, images, self._taps)
        return tuple(self._taps.found.pop(layer) for layer in self.layers)
