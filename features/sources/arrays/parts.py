"""Arrays of images in a file, and what belongs to them."""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from frostline.features.errors import SourceError
from frostline.features.sources.arrays.encoding import check_images, image_file
from frostline.features.sources.containers.container import Container
from frostline.features.sources.labels import listed, words
from frostline.features.sources.numbering import numbered
from frostline.features.sources.split_names import SPLIT_CODES
from frostline.features.sources.stats import Stat
from frostline.splits import Split
from frostline.system.files import read_at

_IMAGES: Final = frozenset({"data", "image", "images", "img", "imgs", "x"})
_LABELS: Final = frozenset({"class", "classes", "label", "labels", "target", "targets", "y"})

NO_LABELS: Final = "none"
"""Choice for arrays without labels."""


class Pixels(Protocol):
    """(n, ...) uint8 images in a file; see `encoding.check_images`. Objects are picklable and thread-safe."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        ...

    def row(self, fd: int, index: int) -> NDArray[np.uint8]:
        """Return one image, given the descriptor of the file."""
        ...


@dataclass(frozen=True)
class StoredPixels:
    """Images that lie in a file one after the other.

    Attributes:
        shape: Shape of the array.
        offset: Position of the first image in the file.
    """

    shape: tuple[int, ...]
    offset: int

    def row(self, fd: int, index: int) -> NDArray[np.uint8]:
        """Return one image, given the descriptor of the file."""
        size = int(np.prod(self.shape[1:]))
        return np.frombuffer(read_at(fd, size, self.offset + index * size), np.uint8).reshape(self.shape[1:])


@dataclass(frozen=True, eq=False)
class LoadedPixels:
    """Images in memory, where the file can only be read as a whole.

    Attributes:
        pixels: The array.
    """

    pixels: NDArray[np.uint8]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.pixels.shape

    def row(self, fd: int, index: int) -> NDArray[np.uint8]:  # noqa: ARG002  # the file isn't needed
        """Return one image."""
        image: NDArray[np.uint8] = self.pixels[index]
        return image


@dataclass(frozen=True, eq=False)
class Part:
    """Array of images.

    Attributes:
        name: Name of the part, such as ``train``; empty for the only one.
        pixels: The images.
        labels: Label of each image, empty for unknown.
        split: Split of the images.
    """

    name: str
    pixels: Pixels
    labels: Sequence[str]
    split: Split


@dataclass(frozen=True, eq=False)
class ArrayFile(Container):
    """File of arrays of images.

    Attributes:
        parts: The arrays, in the order of the images.
        starts: Index of the first image of each part.
        opener: Function that opens the file.
    """

    parts: Sequence[Part]
    starts: Sequence[int]
    opener: "Callable[[str], ArrayFile]"

    def reopened(self) -> "ArrayFile":
        """Return the file as it is now."""
        return self.opener(self.path)

    def _read(self, fd: int, index: int) -> bytes:
        part = bisect_right(self.starts, index) - 1
        return image_file(self.parts[part].pixels.row(fd, index - self.starts[part]))


def array_file(
    path: str,
    stat: Stat,
    parts: Sequence[Part],
    opener: Callable[[str], ArrayFile],
    remarks: Sequence[str] = (),
) -> ArrayFile:
    """Return a file of arrays. The id of an image is its number, after the name of its part."""
    names: list[str] = []
    sizes: list[int] = []
    starts = []
    for part in parts:
        count, *shape = part.pixels.shape
        starts.append(len(names))
        names += numbered(count, part.name)
        sizes += [len(image_file(np.zeros(shape, np.uint8)))] * count
    return ArrayFile(path, stat, names, sizes, tuple(remarks), parts, starts, opener)


@dataclass(frozen=True, eq=False)
class NamedArray:
    """Array in a file that has names.

    Attributes:
        shape: Its shape.
        dtype: Type of its elements.
        pixels: Function that returns it as images.
        values: Function that returns it whole.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pixels: Callable[[], Pixels]
    values: Callable[[], NDArray[Any]]


def pair(arrays: Mapping[str, NamedArray], chosen: str | None, where: str) -> tuple[list[Part], list[str]]:
    """Return the parts among named arrays, and remarks.

    Images are arrays of three or four dimensions; if some of these have names such as ``images`` or ``x``, only those,
    and not masks beside them. Labels are arrays with one value per image whose name differs from
    that of the images in one word, such as ``train_images`` and ``train_labels``, or ``x`` and ``y``. What else the names
    say is the name of the part, and its split if it is one.

    Args:
        arrays: The arrays by name.
        chosen: Name of the array with the labels, ``none`` for no labels; None to find it.
        where: The file, for messages.

    Raises:
        SourceError: There are no images, they are of another type or shape, or labels don't fit them.
    """
    shaped = {name: array for name, array in arrays.items() if len(array.shape) in {3, 4}}
    found = {name: array for name, array in shaped.items() if words(name) & _IMAGES} or shaped
    if not found:
        raise SourceError(
            f"{where}: holds no array of images; got {_shapes(arrays)}. Expected uint8 (n, height, width) or"
            " (n, height, width, channels)"
        )
    if chosen not in {None, NO_LABELS} and (chosen not in arrays or len(found) > 1):
        raise SourceError(
            f"{where}: --label-column: got {chosen!r}, expected the name of the array with the labels of the only images;"
            f" got {_shapes(arrays)}"
        )
    parts = []
    remarks = [f"not used: {listed(unused)}"] if (unused := shaped.keys() - found.keys()) else []
    for name, images in sorted(found.items()):
        check_images(images.shape, images.dtype, f"{where}, its array {name!r}")
        pixels, rest = images.pixels(), words(name) - _IMAGES
        label = chosen or _label_of(
            rest, arrays, images.shape[0], f"{where}, its array {name!r}", only=len(found) == 1
        )
        texts = [""] * images.shape[0]
        if label not in {None, NO_LABELS}:
            _check_labels(arrays[str(label)], images.shape[0], f"{where}, its array {label!r}")
            texts = label_texts(arrays[str(label)].values(), images.shape[0], f"{where}, its array {label!r}")
        elif label is None:
            remarks.append(f"no array holds one label per image of {name!r}, so these are unlabelled")
        part = "-".join(sorted(rest)) if len(found) > 1 else ""
        parts.append(Part(part, pixels, texts, _split_of(rest)))
    if len({part.name for part in parts}) < len(parts):
        raise SourceError(
            f"{where}: can't tell its arrays of images apart by their names; got {_shapes(found)}"
        )
    return parts, remarks


def label_texts(values: NDArray[Any], count: int, where: str) -> list[str]:
    """Return labels as text.

    Args:
        values: (n,) or (n, 1) integers, texts or bytes.
        count: Number of images.
        where: Place named in messages.

    Raises:
        SourceError: There is not one integer or text per image.
    """
    _check_labels(values, count, where)
    values = values.reshape(count)
    try:
        if values.dtype.kind == "U":
            values = np.strings.encode(values, "utf-8")
        return [value.decode() if isinstance(value, bytes) else str(value) for value in values.tolist()]
    except (UnicodeError, SystemError):  # numbers that are no characters
        raise SourceError(f"{where}: holds labels that are not UTF-8 text") from None


def _check_labels(labels: NamedArray | NDArray[Any], count: int, where: str) -> None:
    if labels.shape not in {(count,), (count, 1)} or labels.dtype.kind not in "iuUSOb":
        raise SourceError(
            f"{where}: got {labels.dtype} of shape {labels.shape}, expected one integer or text per image, ({count},)"
        )


def _label_of(
    rest: set[str], arrays: Mapping[str, NamedArray], count: int, where: str, *, only: bool
) -> str | None:
    """Return the name of the array with the labels of images; None for none."""
    candidates = [
        name for name, array in arrays.items() if words(name) & _LABELS and len(array.shape) in {1, 2}
    ]
    exact = [name for name in candidates if words(name) - _LABELS == rest]
    if len(exact) == 1:
        return exact[0]
    if exact:
        raise SourceError(
            f"{where}: several arrays may hold the labels, {listed(exact)}; name one with --label-column, or none"
        )
    return (
        candidates[0] if only and len(candidates) == 1 and arrays[candidates[0]].shape[0] == count else None
    )


def _split_of(rest: set[str]) -> Split:
    told = {SPLIT_CODES[word] for word in rest if word in SPLIT_CODES}
    return told.pop() if len(told) == 1 else Split.NONE


def _shapes(arrays: Mapping[str, NamedArray]) -> str:
    return listed([f"{name} {array.dtype}{array.shape}" for name, array in arrays.items()]) or "none"
