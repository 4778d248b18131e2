"""Frozen, pretrained network with its layers and stages."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import nn

from frostline.features.backbones.layers import LayerInfo, discover, resolve
from frostline.features.backbones.network import Network
from frostline.features.backbones.stages import Stage, derive_stages
from frostline.features.backbones.weights import fingerprint
from frostline.features.errors import BackboneError
from frostline.features.spec import Layer, Transform


class Backbone:
    """Frozen network in evaluation mode, without gradients.

    Attributes:
        name: Full name, with the source and the tag of the weights.
        network: Network built by its source.
        weights_sha256: Value of `fingerprint` when the backbone was loaded.
        origin: Argument ``weights`` of `load_backbone` that loads the same weights from any working folder; empty
            for the pretrained ones.
    """

    def __init__(self, name: str, network: Network, *, origin: str = "") -> None:
        self.name = name
        self.origin = origin
        self.network = network
        network.module.eval().requires_grad_(False)
        self.weights_sha256 = self.fingerprint()

    @property
    def module(self) -> nn.Module:
        """Module that maps (b, 3, h, w) normalised images to class scores or an embedding."""
        return self.network.module

    @property
    def transform(self) -> Transform:
        """Preprocessing from an image to the network's input, as in the training of the weights."""
        return self.network.transform

    def with_transform(self, transform: Transform) -> "Backbone":
        """Return a backbone with another transform. The network and its weights are shared.

        Raises:
            BackboneError: The network doesn't support images of that size.
        """
        if transform == self.transform:
            return self
        network = dataclasses.replace(self.network, transform=transform)
        other = Backbone(self.name, network, origin=self.origin)
        try:
            other.layers()
        except (AssertionError, RuntimeError) as error:
            height, width = transform.crop
            raise BackboneError(
                f"backbone {self.name}: images of {height} x {width} pixels aren't supported ({error}); its own size is "
                f"{self.transform.crop[0]} x {self.transform.crop[1]}"
            ) from error
        return other

    @property
    def weights(self) -> str:
        """Description of the origin of the weights."""
        return self.network.weights

    @property
    def note(self) -> str:
        """How the weights file was read and what was assumed about it, in words; empty for nothing to say."""
        return self.network.note

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of the libraries that the features depend on."""
        return {"torch": torch.__version__, **self.network.versions}

    def fingerprint(self) -> str:
        """Return the SHA-256 digest of the current parameters and buffers, 64 hexadecimal digits."""
        return fingerprint(self.network.module)

    def layers(self) -> dict[str, LayerInfo]:
        """Return all available outputs by name. The first call runs one small forward pass.

        Raises:
            BackboneError: The network's embedding isn't one vector per image.
        """
        return dict(self._layers)

    @cached_property
    def _layers(self) -> dict[str, LayerInfo]:
        return discover(self.network)

    def resolve_layers(self, names: Sequence[str]) -> tuple[Layer, ...]:
        """Resolve ``NAME`` or ``NAME:POOL`` to layers, in the order given and without duplicates.

        The default pool is ``avg`` for a map, ``cls`` for tokens with a class token, ``avg`` for other tokens.

        Raises:
            LayerError: The backbone doesn't have a layer or pool. The message lists valid ones.
        """
        return resolve(names, self._layers)

    def stages(self) -> tuple[Stage, ...]:
        """Return the stages of the network without its classifier, in execution order.

        Raises:
            BackboneError: The network can't be run without its classifier.
        """
        return self._stages

    @cached_property
    def _stages(self) -> tuple[Stage, ...]:
        return derive_stages(self.network, self._layers)
