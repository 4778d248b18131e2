"""How a network is run, and where its embedding and its class scores come out.

A network is run with taps: a `Taps` is offered every module's output, the embedding and the class scores, and may stop
the run once it has what it wants.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

EMBEDDING = "embedding"
LOGITS = "logits"


class Taps(Protocol):
    """Receives what a network computes while it runs."""

    def wants(self, name: str) -> bool:
        """Whether this output is of any use."""

    def put(self, name: str, output: object) -> None:
        """Take one output; may raise to stop the run, when nothing more is wanted."""

    def muted(self) -> AbstractContextManager[None]:
        """While it is entered, outputs of modules are not for the taps."""


class Readout(Protocol):
    """How a network is run to its end."""

    @property
    def has_logits(self) -> bool:
        """Whether the network ends in class scores."""

    def classifier(self, module: nn.Module) -> tuple[str, ...]:
        """Names of the modules that turn the embedding into class scores."""

    def attach(self, module: nn.Module, taps: Taps) -> list[RemovableHandle]:
        """Hook what only a hook can read."""

    def run(self, module: nn.Module, images: Tensor, taps: Taps) -> None:
        """Run `module` on normalised images (b, 3, h, w) and put the embedding and the logits."""

    def without_classifier(self, module: nn.Module) -> "Readout":
        """Take the classifier off `module`, in place; the embedding stays the same."""


@dataclass(frozen=True)
class TimmReadout:
    """timm's own convention: ``forward_features``, then ``forward_head`` with or without ``pre_logits``."""

    has_logits: bool

    def classifier(self, module: nn.Module) -> tuple[str, ...]:
        """Names of the modules that turn the embedding into class scores: two of them in distilled networks."""
        if not self.has_logits:
            return ()
        found: Any = module.get_classifier()  # type: ignore[operator]
        parts = found if isinstance(found, tuple | list) else (found,)
        return tuple(name for name, part in module.named_modules() if any(part is each for each in parts))

    def attach(self, module: nn.Module, taps: Taps) -> list[RemovableHandle]:  # noqa: ARG002  # the protocol's
        """Nothing: every output is returned by a method."""
        return []

    def run(self, module: nn.Module, images: Tensor, taps: Taps) -> None:
        """Run the trunk once, and the head once for each of the embedding and the logits that is wanted."""
        network: Any = module
        features = network.forward_features(images)
        if taps.wants(EMBEDDING):
            with taps.muted():  # the modules of the head are offered by the run to the logits, once
                embedding = network.forward_head(features, pre_logits=True)
            taps.put(EMBEDDING, embedding)
        output = network.forward_head(features)
        if self.has_logits:
            taps.put(LOGITS, output)

    def without_classifier(self, module: nn.Module) -> Readout:
        """Let timm take the classifier off."""
        network: Any = module
        network.reset_classifier(0)
        return TimmReadout(has_logits=False)


@dataclass(frozen=True)
class ClassifierReadout:
    """The embedding is what the module called `name` reads; the output of the whole network is the logits.

    A convolutional classifier, as in SqueezeNet, reads a map: its average over the positions is the embedding.
    """

    name: str
    has_logits: bool = True

    def classifier(self, module: nn.Module) -> tuple[str, ...]:  # noqa: ARG002  # the protocol's
        """The one module."""
        return (self.name,)

    def attach(self, module: nn.Module, taps: Taps) -> list[RemovableHandle]:
        """Read the classifier's input."""

        def read(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            output = inputs[0]
            taps.put(EMBEDDING, output.mean((2, 3)) if output.ndim == 4 else output)

        return [module.get_submodule(self.name).register_forward_pre_hook(read)]

    def run(self, module: nn.Module, images: Tensor, taps: Taps) -> None:
        """Run the network."""
        taps.put(LOGITS, module(images))

    def without_classifier(self, module: nn.Module) -> Readout:
        """Put an identity in its place, so that the network returns its embedding."""
        module.set_submodule(self.name, nn.Identity())
        return OutputReadout()


@dataclass(frozen=True)
class OutputReadout:
    """The network returns its embedding, and has no classifier."""

    has_logits: bool = False

    def classifier(self, module: nn.Module) -> tuple[str, ...]:  # noqa: ARG002  # the protocol's
        """None."""
        return ()

    def attach(self, module: nn.Module, taps: Taps) -> list[RemovableHandle]:  # noqa: ARG002  # the protocol's
        """Nothing: the output is returned."""
        return []

    def run(self, module: nn.Module, images: Tensor, taps: Taps) -> None:
        """Run the network."""
        taps.put(EMBEDDING, module(images))

    def without_classifier(self, module: nn.Module) -> Readout:  # noqa: ARG002  # the protocol's
        """The same: there is none."""
        return self
