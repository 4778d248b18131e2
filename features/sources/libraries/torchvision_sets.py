"""Data sets of torchvision by name: ``tv:CIFAR10``."""

import inspect
from collections.abc import Iterator
from typing import Any, Final

from frostline.errors import one_line
from frostline.features.errors import SourceError
from frostline.features.sources.files import absolute
from frostline.features.sources.kinds import SourceKind
from frostline.features.sources.libraries.joined import Part, joined_source, split_name
from frostline.features.sources.memory import labels_of
from frostline.features.table import ImageSource
from frostline.registry import near

PREFIX: Final = "tv:"

_SPLITS: Final = ("train", "val", "valid", "test")


def open_torchvision(data: str) -> ImageSource:
    """List the images of a data set of torchvision. Nothing is downloaded.

    Args:
        data: ``tv:NAME`` or ``tv:NAME:ROOT``: a class in `torchvision.datasets`, and the folder that it calls ``root``,
            by default ``data``.

    Raises:
        SourceError: There is no such data set, its files are not in the folder, or it holds no labelled images.
    """
    from torchvision import datasets

    name, root = (*split_name(data, PREFIX), "data")[:2]
    root = absolute(root)
    kind = getattr(datasets, name, None)
    if not (isinstance(kind, type) and issubclass(kind, datasets.VisionDataset)):
        names = [each for each in datasets.__all__ if isinstance(getattr(datasets, each), type)]
        raise SourceError(f"{data}: torchvision {_version()} has no data set {name!r}{near(name, names)}")
    try:
        parts = {split: Part(found, labels_of(found)) for split, found in _splits(kind, root)}
    except (RuntimeError, OSError, ValueError, TypeError, ImportError) as error:
        line = one_line(error)
        raise SourceError(
            f"{data}: torchvision can't read {name} in {root}: {line} (its files are expected as"
            f" torchvision.datasets.{name}({root!r}) reads them)"
        ) from error
    return joined_source(f"{PREFIX}{name}:{root}", parts)


TORCHVISION = SourceKind(
    "tv:NAME of torchvision",
    lambda data: data.startswith(PREFIX),
    open_torchvision,
)


def _splits(kind: type[Any], root: str) -> Iterator[tuple[str, Any]]:
    """Yield the splits that a data set has, as its arguments tell."""
    arguments = inspect.signature(kind).parameters
    if "train" in arguments:
        yield "train", kind(root, train=True)
        yield "test", kind(root, train=False)
        return
    if "split" not in arguments:
        yield "all", kind(root)
        return
    refused: ValueError | None = None
    count = 0
    for split in _SPLITS:
        try:
            found = kind(root, split=split)
        except ValueError as error:  # a name that this data set doesn't have
            refused = error
            continue
        count += 1
        yield split, found
    if not count and refused:
        raise refused


def _version() -> str:
    import torchvision

    return str(torchvision.__version__)
