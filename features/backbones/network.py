"""What every source of backbones gives: a module, its transform, and how to read it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from torch import nn

from frostline.features.backbones.readout import Readout
from frostline.features.spec import Transform

Availability = Literal["here", "download", "none"]


@dataclass(frozen=True)
class ClassTokens:
    """Tokens in front of the patches' tokens.

    Attributes:
        prefix: How many: class, distillation and register tokens.
        has_class: Whether the first one is a class token.
        length: Tokens per image where they are there, patches included.
    """

    prefix: int
    has_class: bool
    length: int


@dataclass(frozen=True)
class Network:
    """A built network.

    Attributes:
        module: (b, 3, h, w) normalised images to class scores or an embedding.
        transform: From image to input, as the weights were trained with.
        readout: Where the embedding and the logits come out.
        weights: Where the weights came from, in words.
        tokens: The tokens in front of the patches' ones, if the network has any.
        channels_last: Whether the network's own maps are NHWC, which decides where a shape doesn't tell.
        ignored: Prefixes of keys in a weight file that this module has no use for.
        versions: Libraries, beside torch, that the numbers depend on.
    """

    module: nn.Module
    transform: Transform
    readout: Readout
    weights: str
    tokens: ClassTokens | None = None
    channels_last: bool = False
    ignored: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class Source(Protocol):
    """Where backbones come from, by name. To add one, list it in `features.backbones.providers.registry`.

    Attributes:
        prefix: What is written before a name, and a colon.
    """

    prefix: str

    def names(self) -> Iterator[str]:
        """Every name it knows, without the prefix."""

    def find(self, name: str) -> str | None:
        """The full name, with the tag of the weights, or None for a name that it doesn't know."""

    def build(self, name: str, weights: str | Path | None) -> Network:
        """Build the network of a full name.

        Args:
            name: From `find`.
            weights: None for the pretrained ones, ``random[:SEED]`` or a file.

        Raises:
            BackboneError: It can't be built here.
            WeightsError: The weights can't be had or don't fit.
        """

    def availability(self, name: str) -> Availability:
        """Whether its pretrained weights are here, can be downloaded, or don't exist."""

    def version(self) -> str:
        """Library and version that define what the names mean."""
