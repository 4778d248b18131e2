"""Published weights of a network, and which of them a file holds."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from frostline.features.backbones.weights.errors import some
from frostline.files.checksums import digest_of_file


@dataclass(frozen=True)
class Published:
    """One set of published weights of a network.

    Attributes:
        name: Full name, with the tag.
        url: Location of the file; empty if unknown. Many names of files end in the start of their SHA-256.
        transform: Settings of the transform, in the terms of the source.
    """

    name: str
    url: str
    transform: object

    def is_digest(self, sha256: str) -> bool:
        """Return whether the file has this SHA-256, as far as its name tells; 64 hexadecimal digits."""
        found = re.search(r"-([0-9a-f]{8,64})\.\w+$", self.url)
        return found is not None and sha256.startswith(found[1])


@runtime_checkable
class Publisher(Protocol):
    """Interface of a source that knows several sets of weights of a network, each with its own transform."""

    def published(self, name: str) -> Sequence[Published]:
        """Return all sets of published weights of the network with a full name."""


def recognise(name: str, published: Sequence[Published], file: Path, *, named: bool) -> tuple[str, str]:
    """Return the full name whose transform belongs to a weights file, and a note on how it was found.

    Args:
        name: Full name of the backbone, with the tag that the user named or the default one.
        published: Published weights of the network.
        file: The weights file.
        named: Whether the user named the tag. It is kept then.
    """
    transforms = {each.name: each.transform for each in published}
    others = [each.name for each in published if each.transform != transforms.get(name)]
    if name not in transforms or not others:
        return name, ""
    sha256 = digest_of_file(file)
    known = next((each.name for each in published if each.is_digest(sha256)), None)
    if known is None:
        remedy = f"name another tag if it was trained with another one ({some(others, 3)})"
        return name, "" if named else f"The transform of {name} is assumed for {file}; {remedy}."
    if known not in others:
        return name, ""
    if named:
        return (
            name,
            f"{file} is the published file of {known}, but is used with the transform of {name}, as named.",
        )
    return known, f"{file} is the published file of {known}, whose transform is used."
