"""Execution of networks, and access to their embedding and class scores.

A network is run with taps. A `Taps` object receives every module's output, the embedding and the class scores. It
may stop the run when it has received all outputs that it needs.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

EMBEDDING = "embedding"
LOGITS = "logits"


class Taps(Protocol):
    """Interface of a receiver of a network's outputs during a run."""

    def wants(self, name: str) -> bool:
        """Return whether an output is needed."""

    def put(self, name: str, output: object) -> None:
        """Receive one output. May raise an exception to stop the run when no further output is needed."""

    def muted(self) -> AbstractContextManager[None]:
        """Return a context manager in which outputs of modules are ignored."""


class Readout(Protocol):
    """Interface for running a network and reading its embedding and logits."""

    @property
    def has_logits(self) -> bool:
        """Whether the network ends in class scores."""

    def classifier(self, module: nn.Module) -> tuple[str, ...]:
        """Return the names of the modules that compute class scores from the embedding."""

    def attach(self, module: nn.Module, taps: Taps) -> list[RemovableHandle]:
        """Register the hooks that the readout needs, and return their handles."""

    def run(self, module: nn.Module, images: Tensor, taps: Taps) -> None:
        """Run `module` on normalised images (b, 3, h, w) and pass the embedding and the logits to `taps`."""

    def without_classifier(self, module: nn.Module) -> "Readout":
        """Remove the classifier of `module` in place, and return its new readout. The embedding is unchanged."""


@dataclass(frozen=True)
class TimmReadout:
    """Readout by timm's convention: ``forward_features``, then ``forward_head`` with or without ``pre_logits``."""

    has_logits: bool

    def classifier(self, module: nn.Module) -> tuple[str, ...]:
        """Return the names of the modules that compute class scores. Distilled networks have two."""
        if not self.has_logits:
            return ()
        found: Any = module.get_classifier()  # type: ignore[operator]
        parts = found if isinstance(found, tuple | list) else (found,)
        return tuple(name for name, part in module.named_modules() if any(part is each for each in parts))

    def attach(self, module: nn.Module, taps: Taps) -> list[RemovableHandle]:  # noqa: ARG002  # the protocol's
        """Return no handles: methods return every output."""
        return []

    def run(self, module: nn.Module, images: Tensor, taps: Taps) -> None:
        """Run the trunk once, and the head once for each needed output (embedding, logits)."""
        network: Any = module
        features = network.forward_features(images)
        if taps.wants(EMBEDDING):
            with taps.muted():  # the run for the logits passes the head's modules to the taps, once
                embedding = network.forward_head(features, pre_logits=True)
            taps.put(EMBEDDING, embedding)
        output = network.forward_head(features)
        if self.has_logits:
            taps.put(LOGITS, output)

    def without_classifier(self, module: nn.Module) -> Readout:
        """Remove the classifier with timm's own method."""
        network: Any = module
        network.reset_classifier(0)
        return TimmReadout(has_logits=False)


@dataclass(frozen=True)
class ClassifierReadout:
    """Readout whose embedding is the input of the module `name`, and whose logits are the output of the network.

    The input of a convolutional classifier, as in SqueezeNet, is a map. Its average over the positions is the
    embedding.
    """

    name: str
    has_logits: bool = True

    def classifier(self, module: nn.Module) -> tuple[str, ...]:  # noqa: ARG002  # the protocol's
        """Return the name of the classifier."""
        return (self.name,)

    def attach(self, module: nn.Module, taps: Taps) -> list[RemovableHandle]:
        """Register a hook that reads the classifier's input."""

        def read(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            output = inputs[0]
            taps.put(EMBEDDING, output.mean((2, 3)) if output.ndim == 4 else output)

        return [module.get_submodule(self.name).register_forward_pre_hook(read)]

    def run(self, module: nn.Module, images: Tensor, taps: Taps) -> None:
        """Run the network."""
        taps.put(LOGITS, module(images))

    def without_classifier(self, module: nn.Module) -> Readout:
        """Replace the classifier by an identity, so that the network returns its embedding."""
        module.set_submodule(self.name, nn.Identity())
        return OutputReadout()


@dataclass(frozen=True)
class OutputReadout:
    """Readout of a network without a classifier, which returns its embedding."""

    has_logits: bool = False

    def classifier(self, module: nn.Module) -> tuple[str, ...]:  # noqa: ARG002  # the protocol's
        """Return no names: the network has no classifier."""
        return ()

    def attach(self, module: nn.Module, taps: Taps) -> list[RemovableHandle]:  # noqa: ARG002  # the protocol's
        """Return no handles: the network returns its embedding."""
        return []

    def run(self, module: nn.Module, images: Tensor, taps: Taps) -> None:
        """Run the network."""
        taps.put(EMBEDDING, module(images))

    def without_classifier(self, module: nn.Module) -> Readout:  # noqa: ARG002  # the protocol's
        """Return this readout: the network has no classifier."""
        return self
