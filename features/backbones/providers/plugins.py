"""Backbones of other packages: ``plugin:NAME``, registered in the entry-point group ``frostline.backbones``.

An entry point names a callable ``weights -> (module, transform)``. `weights` is the user's choice: None (the
plugin's own pretrained weights), ``random[:SEED]`` or a file. The module maps normalised images (b, 3, h, w) to
their embedding (b, dim). A module with timm's ``forward_features`` and ``forward_head`` is read like timm's
networks, with logits.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from torch import nn

from frostline.features.backbones.network import Availability, Network
from frostline.features.backbones.readout import OutputReadout, Readout, TimmReadout
from frostline.features.backbones.weights import seed_of_random_weights, seeded
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
"""Registry of the plugins of other packages."""


class PluginSource:
    """Source of the backbones that installed packages declare."""

    prefix = "plugin"

    def names(self) -> Iterator[str]:
        """Iterate over the names of the entry points."""
        yield from PLUGINS

    def find(self, name: str) -> str | None:
        """Return the name itself, or None if it is unknown."""
        return name if name in PLUGINS else None

    def build(self, name: str, weights: str | Path | None) -> Network:
        """Call the plugin.

        Raises:
            BackboneError: The plugin can't be imported, or doesn't return a module and a transform.
        """
        create = PLUGINS[name]
        with seeded(seed_of_random_weights(weights) or 0):
            created = create(weights)
        if not (isinstance(created, tuple) and len(created) == 2):
            raise BackboneError(
                f"plugin {name!r} ({_package_version(name)}) returned a {type(created).__name__}; expected (module, transform)"
            )
        module, transform = created
        if not (isinstance(module, nn.Module) and isinstance(transform, Transform)):
            raise BackboneError(
                f"plugin {name!r} ({_package_version(name)}) returned ({type(module).__name__}, {type(transform).__name__}); "
                "expected (torch.nn.Module, frostline.features.spec.Transform)"
            )
        return Network(
            module=module,
            transform=transform,
            readout=_readout(module),
            weights=str(weights or "the plugin's own"),
            versions=PLUGINS.package(name),
        )

    def availability(self, name: str) -> Availability:  # noqa: ARG002  # the same for every plugin
        """Return ``local``: the plugin is installed, and its own downloads are unknown."""
        return "local"

    def version(self) -> str:
        """Return the versions of all packages that declare a plugin."""
        return " ".join(sorted({_package_version(name) for name in PLUGINS}))


PLUGIN = PluginSource()


def _package_version(name: str) -> str:
    """Return the name and version of a plugin's package."""
    return " ".join(f"{package} {version}" for package, version in PLUGINS.package(name).items())


def _readout(module: nn.Module) -> Readout:
    if hasattr(module, "forward_features") and hasattr(module, "forward_head"):
        return TimmReadout(has_logits=getattr(module, "num_classes", 0) > 0)
    return OutputReadout()
