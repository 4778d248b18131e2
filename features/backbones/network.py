"""Interface of backbone sources, and the networks that they build."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from torch import nn

from frostline.features.backbones.readout import Readout
from frostline.features.spec import Transform

Availability = Literal["local", "download", "none"]


@dataclass(frozen=True)
class ClassTokens:
    """Tokens before the patch tokens.

    Attributes:
        prefix: Number of class, distillation and register tokens.
        has_class: Whether the first one is a class token.
        length: Tokens per image in outputs that contain them, including patch tokens.
    """

    prefix: int
    has_class: bool
    length: int


@dataclass(frozen=True)
class Network:
    """Network built by a source.

    Attributes:
        module: Module that maps (b, 3, h, w) normalised images to class scores or an embedding.
        transform: Preprocessing from image to input, as in the training of the weights.
        readout: Access to the embedding and the logits.
        weights: Description of the origin of the weights.
        tokens: Tokens before the patch tokens; None for a network without them.
        channels_last: Whether the network's maps are NHWC. It is used when the shape is ambiguous.
        ignored: Prefixes of keys in a weight file that the module doesn't use.
        versions: Versions of the libraries other than torch that affect the numbers.
        note: How the weights file was read and what was assumed about it, in words; empty for nothing to say.
    """

    module: nn.Module
    transform: Transform
    readout: Readout
    weights: str
    tokens: ClassTokens | None = None
    channels_last: bool = False
    ignored: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


@runtime_checkable
class Source(Protocol):
    """Interface of a source of backbones. New sources are listed in `frostline.features.backbones.providers.registry`.

    Attributes:
        prefix: Prefix of the source's names, without the colon.
    """

    prefix: str

    def names(self) -> Iterator[str]:
        """Iterate over all names of the source, without the prefix."""

    def find(self, name: str) -> str | None:
        """Return the full name with the tag of the weights, or None if the name is unknown."""

    def build(self, name: str, weights: str | Path | None) -> Network:
        """Build the network of a full name.

        Args:
            name: Full name from `find`.
            weights: None for the pretrained weights, ``random[:SEED]`` or a file.

        Raises:
            BackboneError: The network can't be built on this machine.
            WeightsError: The weights are not available or don't fit.
        """

    def availability(self, name: str) -> Availability:
        """Return whether the pretrained weights are on this machine, can be downloaded, or don't exist."""

    def version(self) -> str:
        """Return the library and version that define the networks."""
