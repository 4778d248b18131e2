"""A frozen, pretrained network and the layers it offers."""

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
    """A network that is frozen: in evaluation mode, without gradients.

    Attributes:
        name: Full name, with the source and the tag of the weights.
        network: What was built, as its source gave it.
        weights_sha256: `fingerprint` when it was loaded.
        origin: What `load_backbone` needs as ``weights``, beside `name`, to load the same numbers again from whatever folder;
            empty for the pretrained ones.
    """

    def __init__(self, name: str, network: Network, *, origin: str = "") -> None:
        self.name = name
        self.origin = origin
        self.network = network
        network.module.eval().requires_grad_(False)
        self.weights_sha256 = self.fingerprint()

    @property
    def module(self) -> nn.Module:
        """The network itself: (b, 3, h, w) normalised images to class scores or an embedding."""
        return self.network.module

    @property
    def transform(self) -> Transform:
        """From an image to the network's input, as the weights were trained with."""
        return self.network.transform

    def with_transform(self, transform: Transform) -> "Backbone":
        """The same network, sharing its weights, for images that are prepared otherwise.

        Raises:
            BackboneError: It can't take images of that size.
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
                f"backbone {self.name}: it can't take images of {height} x {width} pixels ({error}); its own size is "
                f"{self.transform.crop[0]} x {self.transform.crop[1]}"
            ) from error
        return other

    @property
    def weights(self) -> str:
        """Where the weights came from, in words."""
        return self.network.weights

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of the libraries that the features depend on."""
        return {"torch": torch.__version__, **self.network.versions}

    def fingerprint(self) -> str:
        """SHA-256 over all parameters and buffers as they are now, 64 hexadecimal digits."""
        return fingerprint(self.network.module)

    def layers(self) -> dict[str, LayerInfo]:
        """Every output that can be asked for, by name. The first call runs one small forward pass.

        Raises:
            BackboneError: The network's embedding isn't one vector per image.
        """
        return dict(self._layers)

    @cached_property
    def _layers(self) -> dict[str, LayerInfo]:
        return discover(self.network)

    def resolve_layers(self, names: Sequence[str]) -> tuple[Layer, ...]:
        """Turn ``NAME`` or ``NAME:POOL`` into layers, in the order given, each once.

        The default pool is ``avg`` for a map, ``cls`` for tokens with a class token, ``avg`` for other tokens.

        Raises:
            LayerError: A layer or pool that this backbone doesn't have; lists valid ones.
        """
        return resolve(names, self._layers)

    def stages(self) -> tuple[Stage, ...]:
        """The parts of the network without its classifier, in the order in which they run.

        Raises:
            BackboneError: The network can't be run without its classifier.
        """
        return self._stages

    @cached_property
    def _stages(self) -> tuple[Stage, ...]:
        return derive_stages(self.network, self._layers)
