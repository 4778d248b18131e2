"""Backbones that other packages bring: ``plugin:NAME``, by the entry-point group ``frostline.backbones``.

An entry point names a callable ``weights -> (module, transform)``. `weights` is what the user gave: None (the plugin's
own pretrained weights), ``random[:SEED]`` or a file. The module takes normalised images (b, 3, h, w) and returns their
embedding (b, dim); a module with timm's ``forward_features`` and ``forward_head`` is read as timm's are, logits included.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from torch import nn

from frostline.features.backbones.network import Availability, Network
from frostline.features.backbones.readout import OutputReadout, Readout, TimmReadout
from frostline.features.backbones.weights import random_seed, seeded
from frostline.features.errors import BackboneError
from frostline.features.spec import Transform
from frostline.registry import Registry

Plugin = Callable[[str | Path | None], object]

PLUGINS: Registry[Plugin] = Registry(
    "plugin",
    {},
    group="frostline.backbones",
    adopt=lambda _name, found: found if callable(found) else None,
    expected="a callable weights -> (module, transform)",
    error=BackboneError,
)
"""What other packages declare, by the names that they gave it."""


class PluginSource:
    """What the installed packages declare."""

    prefix = "plugin"

    def names(self) -> Iterator[str]:
        """Names of the entry points."""
        yield from PLUGINS

    def find(self, name: str) -> str | None:
        """The name itself."""
        return name if name in PLUGINS else None

    def build(self, name: str, weights: str | Path | None) -> Network:
        """Call the plugin.

        Raises:
            BackboneError: The plugin can't be imported, or doesn't return a module and a transform.
        """
        create = PLUGINS[name]
        with seeded(random_seed(weights) or 0):
            made = create(weights)
        if not (isinstance(made, tuple) and len(made) == 2):
            raise BackboneError(
                f"plugin {name!r} ({_brought(name)}) returned a {type(made).__name__}; expected (module, transform)"
            )
        module, transform = made
        if not (isinstance(module, nn.Module) and isinstance(transform, Transform)):
            raise BackboneError(
                f"plugin {name!r} ({_brought(name)}) returned ({type(module).__name__}, {type(transform).__name__}); "
                "expected (torch.nn.Module, frostline.features.spec.Transform)"
            )
        return Network(
            module=module,
            transform=transform,
            readout=_readout(module),
            weights=str(weights or "the plugin's own"),
            versions=PLUGINS.package(name),
        )

    def availability(self, name: str) -> Availability:  # noqa: ARG002  # a plugin doesn't tell
        """The plugin is installed; what it fetches is its own business."""
        return "here"

    def version(self) -> str:
        """Of every package that brings a plugin."""
        return " ".join(sorted({_brought(name) for name in PLUGINS}))


PLUGIN = PluginSource()


def _brought(name: str) -> str:
    """Package and version that a plugin is from."""
    return " ".join(f"{package} {version}" for package, version in PLUGINS.package(name).items())


def _readout(module: nn.Module) -> Readout:
    if hasattr(module, "forward_features") and hasattr(module, "forward_head"):
        return TimmReadout(has_logits=getattr(module, "num_classes", 0) > 0)
    return OutputReadout()
