"""Registry of backbone sources, in the search order of bare names. A new source needs a module and a line here."""

import difflib
from collections.abc import Iterable, Iterator

from frostline.features.backbones.network import Source
from frostline.features.errors import BackboneError
from frostline.registry import Entry, Registry

_HERE = "frostline.features.backbones.providers"
_SHOWN = 5


def _adopt(prefix: str, found: object) -> Source | None:
    """Return the object if it is a source whose prefix is its name in the registry."""
    if isinstance(found, Source) and not isinstance(found, type) and found.prefix == prefix:
        return found
    return None


SOURCES: Registry[Source] = Registry(
    "backbone source",
    {
        "embedded": Entry(f"{_HERE}.embedded:EMBEDDED"),
        "timm": Entry(f"{_HERE}.timm:TIMM"),
        "torchvision": Entry(f"{_HERE}.torchvision:TORCHVISION"),
        "open_clip": Entry(f"{_HERE}.open_clip:OPEN_CLIP", needs="open_clip", extra="open-clip"),
        "small": Entry(f"{_HERE}.small:SMALL"),
        "plugin": Entry(f"{_HERE}.plugins:PLUGIN"),
    },
    group="frostline.backbone_sources",
    adopt=_adopt,
    expected="an object with the attributes of features.backbones.Source, whose prefix is that name",
    error=BackboneError,
)
"""Registry of backbone sources, by prefix."""


def installed_sources() -> Iterator[Source]:
    """Iterate over the sources whose libraries are installed."""
    return (SOURCES[prefix] for prefix in SOURCES if not SOURCES.missing(prefix))


def find(name: str) -> tuple[Source, str]:
    """Return the source of a backbone and its full name in that source.

    Raises:
        BackboneError: The backbone is unknown. The message lists similar names.
    """
    prefix, colon, rest = name.partition(":")
    wanted = rest if colon else name
    for source in [SOURCES[prefix]] if colon else installed_sources():
        found = source.find(wanted)
        if found is not None:
            return source, found
    searched = [prefix] if colon else [source.prefix for source in installed_sources()]
    close = _near(wanted, searched)
    hint = f"did you mean {', '.join(close)}?" if close else "list them with: frostline backbones PATTERN"
    raise BackboneError(f"backbone {name!r}: not known to {', '.join(searched)}; {hint}")


def _near(name: str, preferred: Iterable[str]) -> list[str]:
    """Return similar names in all sources: other weights of the same network, or networks with a similar name."""
    full: dict[str, str] = {}
    for source in sorted(installed_sources(), key=lambda source: source.prefix not in preferred):
        for text in source.names():
            full.setdefault(text, f"{source.prefix}:{text}")
    siblings = [known for text, known in full.items() if text.partition(".")[0] == name.partition(".")[0]]
    short = {text.partition(".")[0]: known.partition(".")[0] for text, known in reversed(full.items())}
    names = full | short
    near = [names[text] for text in difflib.get_close_matches(name, names, n=_SHOWN, cutoff=0.6)]
    return (siblings or near)[:_SHOWN]
