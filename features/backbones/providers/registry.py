"""From a name to its source: all of them, in the order in which a bare name is searched."""

import difflib

from frostline.features.backbones.network import Source
from frostline.features.backbones.providers.embedded import EmbeddedSource
from frostline.features.backbones.providers.open_clip import OpenClipSource
from frostline.features.backbones.providers.plugins import PluginSource
from frostline.features.backbones.providers.small import SmallSource
from frostline.features.backbones.providers.timm import TimmSource
from frostline.features.backbones.providers.torchvision import TorchvisionSource
from frostline.features.errors import BackboneError

_SHOWN = 5

SOURCES: tuple[Source, ...] = (
    EmbeddedSource(),
    TimmSource(),
    TorchvisionSource(),
    OpenClipSource(),
    SmallSource(),
    PluginSource(),
)


def find(name: str) -> tuple[Source, str]:
    """The source of a backbone, and its full name there.

    Raises:
        BackboneError: No such backbone; names near matches.
    """
    prefix, colon, rest = name.partition(":")
    sources = {source.prefix: source for source in SOURCES}
    if colon and prefix not in sources:
        raise BackboneError(f"backbone {name!r}: no source {prefix!r}; expected one of {', '.join(sources)}")
    searched = (sources[prefix],) if colon else SOURCES
    wanted = rest if colon else name
    for source in searched:
        found = source.find(wanted)
        if found is not None:
            return source, found
    if colon and (problem := getattr(sources[prefix], "missing", lambda: None)()):
        raise problem
    near = _near(wanted, searched)
    hint = f"did you mean {', '.join(near)}?" if near else "list them with: frostline backbones PATTERN"
    raise BackboneError(f"backbone {name!r}: not known to {', '.join(s.prefix for s in searched)}; {hint}")


def _near(name: str, searched: tuple[Source, ...]) -> list[str]:
    """Near matches across all sources: other weights of the same network, or networks with a similar name."""
    first = sorted(SOURCES, key=lambda source: source not in searched)
    full: dict[str, str] = {}
    for source in first:
        for text in source.names():
            full.setdefault(text, f"{source.prefix}:{text}")
    siblings = [known for text, known in full.items() if text.partition(".")[0] == name.partition(".")[0]]
    short = {text.partition(".")[0]: known.partition(".")[0] for text, known in reversed(full.items())}
    names = full | short
    near = [names[text] for text in difflib.get_close_matches(name, names, n=_SHOWN, cutoff=0.6)]
    return (siblings or near)[:_SHOWN]
