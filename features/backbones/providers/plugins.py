"""Backbones that other packages bring: ``plugin:NAME``, by the entry-point group ``frostline.backbones``.

An entry point names a callable ``weights -> (module, transform)``. `weights` is what the user gave: None (the plugin's
own pretrained weights), ``random[:SEED]`` or a file. The module takes normalised images (b, 3, h, w) and returns their
embedding (b, dim); a module with timm's ``forward_features`` and ``forward_head`` is read as timm's are, logits included.
"""

from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from torch import nn

from frostline.features.backbones.network import Availability, Network
from frostline.features.backbones.readout import OutputReadout, Readout, TimmReadout
from frostline.features.backbones.weights import random_seed, seeded
from frostline.features.errors import BackboneError
from frostline.features.spec import Transform

GROUP = "frostline.backbones"


class PluginSource:
    """What the installed packages declare."""

    prefix = "plugin"

    def names(self) -> Iterator[str]:
        """Names of the entry points."""
        yield from sorted(entry_points(group=GROUP).names)

    def find(self, name: str) -> str | None:
        """The name itself."""
        return name if name in entry_points(group=GROUP).names else None

    def build(self, name: str, weights: str | Path | None) -> Network:
        """Call the plugin.

        Raises:
            BackboneError: The plugin can't be imported, or doesn't return a module and a transform.
        """
        entry = _entry(name)
        try:
            create: Any = entry.load()
        except (ImportError, AttributeError) as error:
            raise BackboneError(f"plugin {name!r} ({entry.value}) can't be imported: {error}") from error
        with seeded(random_seed(weights) or 0):
            made = create(weights)
        if not (isinstance(made, tuple) and len(made) == 2):
            raise BackboneError(
                f"plugin {name!r} ({entry.value}) returned a {type(made).__name__}; expected (module, transform)"
            )
        module, transform = made
        if not (isinstance(module, nn.Module) and isinstance(transform, Transform)):
            raise BackboneError(
                f"plugin {name!r} ({entry.value}) returned ({type(module).__name__}, {type(transform).__name__}); "
                "expected (torch.nn.Module, frostline.features.spec.Transform)"
            )
        return Network(
            module=module,
            transform=transform,
            readout=_readout(module),
            weights=str(weights or "the plugin's own"),
            versions=_versions(entry),
        )

    def availability(self, name: str) -> Availability:  # noqa: ARG002  # a plugin doesn't tell
        """The plugin is installed; what it fetches is its own business."""
        return "here"

    def version(self) -> str:
        """Of every package that brings a plugin."""
        return " ".join(
            sorted(
                {
                    f"{name} {version}"
                    for each in entry_points(group=GROUP)
                    for name, version in _versions(each).items()
                }
            )
        )


def _entry(name: str) -> EntryPoint:
    return next(iter(entry_points(group=GROUP, name=name)))


def _versions(entry: EntryPoint) -> dict[str, str]:
    return {entry.dist.name: entry.dist.version} if entry.dist else {}


def _readout(module: nn.Module) -> Readout:
    if hasattr(module, "forward_features") and hasattr(module, "forward_head"):
        return TimmReadout(has_logits=getattr(module, "num_classes", 0) > 0)
    return OutputReadout()
