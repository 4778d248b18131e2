"""Images that a script holds: arrays, pictures of Pillow, bytes, and data sets of PyTorch."""

import hashlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from frostline.features.columns import parse_columns
from frostline.features.errors import SourceError
from frostline.features.images.decoding import MAX_FILE_BYTES
from frostline.features.notes import SourceNotes
from frostline.features.sources.arrays.encoding import check_images, image_file, picture_file
from frostline.features.sources.files import make_table
from frostline.features.sources.labels import composed
from frostline.features.sources.manifests.sheet import side_cells
from frostline.features.sources.numbering import numbered
from frostline.features.sources.split_names import SPLIT_CODES
from frostline.features.table import ImageSource, ImageTable
from frostline.splits import Split
from frostline.system.files import read_regular


class Indexed(Protocol):
    """Sequence of images, such as a data set of PyTorch."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def __getitem__(self, index: int, /) -> Any:
        """Return one image, or a pair of an image and its label."""
        ...


Images: TypeAlias = Iterable[Any] | Indexed
"""Images that `images_source` takes."""


class MemorySource(ImageSource):
    """Images that a script holds. If only their bytes tell whether one has changed, all are read each time.

    Args:
        root: Name of the set.
        table: The images.
        notes: Remarks.
        images: The images in the order given.
        order: Index in `images` of each row.
        settled: Whether the stamps in the table tell that an image has changed.
    """

    def __init__(
        self,
        root: str,
        table: ImageTable,
        notes: SourceNotes,
        images: Sequence[Any],
        order: Sequence[int],
        *,
        settled: bool,
    ) -> None:
        self.root, self.table, self.notes, self._settled = root, table, notes, settled
        self._images, self._order = images, order
        self._lock = threading.Lock()

    def read(self, row: int) -> tuple[bytes, bytes]:
        """Return one image as the bytes of a file; see `ImageSource.read`. Items are taken one after the other."""
        number = self._order[row]
        try:
            with self._lock:
                data = as_file(image_of(self._images[number]))
        except SourceError as error:
            raise OSError(f"image {number}: {error}") from None
        return data, self.table.stamps[row].tobytes()

    def unsettled(self, since: int) -> NDArray[np.bool_]:  # noqa: ARG002  # part of the protocol
        """Return True for every image, unless stamps tell that it has changed."""
        return np.full(len(self.table), not self._settled)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the lock, which can't be passed to worker processes."""
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Set the state of a copy in another process."""
        vars(self).update(state, _lock=threading.Lock())


def images_source(
    images: Images,
    *,
    ids: Sequence[str] | None = None,
    labels: Sequence[Any] | None = None,
    split: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    columns: Mapping[str, Sequence[Any]] | None = None,
    name: str = "memory:images",
    version: str = "",
) -> ImageSource:
    """Return a source of images that a script holds.

    Args:
        images: uint8 array (n, height, width[, channels]) or channels first; data set of PyTorch; or sequence or iterable
            of pictures of Pillow, uint8 arrays or tensors, `pathlib.Path` or bytes of image files. Items may be pairs with a label. A
            data set is read item by item, and an iterable once, into a list.
        ids: Names of the images, unique. By default they are numbered.
        labels: Label of each image as text or integer, "" or None for unknown. By default that of the pairs, or
            ``targets`` of a data set, with the names in its ``classes``.
        split: Split of each image: train, val, test, or "" for none.
        groups: Group of each image, "" for none.
        columns: Side columns by name: a number or text per image, None or "" for unknown.
        name: Name of the set, by which its cache knows it.
        version: Text that changes with the images. It saves reading all images to find out whether any has changed;
            without it, only their bytes tell.

    Raises:
        SourceError: There are no images, or they or what is said of them have another type or number.
    """
    items = _items(images)
    count = len(items)
    if not count:
        raise SourceError(f"{name}: holds no image")
    as_file(image_of(items[0]))  # all others are read when they are computed
    names = numbered(count) if ids is None else [str(id_) for id_ in ids]
    texts, remarks = composed(labels_of(items) if labels is None else _texts(labels, None))
    given = {"ids": names, "labels": texts, "split": split, "groups": groups, **(columns or {})}
    for column, values in given.items():
        if values is not None and len(values) != count:
            raise SourceError(f"{name}: {column}: got {len(values)}, expected one per image, {count}")
    if len({*names}) < count:
        raise SourceError(f"{name}: ids: got {count - len({*names})} of them twice; expected unique ones")
    side, lost = parse_columns({column: side_cells(values) for column, values in (columns or {}).items()})
    table, _ = make_table(
        names,
        [(0, _number_of(version), 0, 0)] * count,
        labels=texts,
        split=[_split(text, name) for text in split] if split is not None else [Split.NONE] * count,
        groups=[str(group) for group in groups or ()],
        columns=side,
        where=name,
    )
    number = {id_.encode(): index for index, id_ in enumerate(names)}
    order = [number[id_] for id_ in table.ids.tolist()]
    notes = SourceNotes(unused_columns=lost, remarks=tuple(remarks))
    return MemorySource(name, table, notes, items, order, settled=bool(version))


def image_of(item: Any) -> Any:
    """Return the image of an item, which may be a pair with a label."""
    return item[0] if isinstance(item, tuple) else item


def as_file(image: Any) -> bytes:
    """Return an image as the bytes of a file.

    Raises:
        SourceError: The image is of another type, shape or number format.
    """
    if isinstance(image, Path):
        return read_regular(image, MAX_FILE_BYTES)
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, Image.Image):
        return picture_file(image)
    pixels = np.asarray(image) if isinstance(image, np.ndarray) or hasattr(image, "__array__") else None
    if pixels is None:
        raise SourceError(
            f"got {type(image).__name__}, expected a picture of Pillow, a uint8 array or tensor, or the bytes of a file"
        )
    check_images((1, *pixels.shape), pixels.dtype, "the array")
    return image_file(pixels)


def _items(images: Any) -> Sequence[Any]:
    if isinstance(images, np.ndarray):
        check_images(images.shape, images.dtype, "the array")
        return images  # type: ignore[return-value]
    if isinstance(images, str | bytes | dict) or not (
        isinstance(images, Iterable) or hasattr(images, "__getitem__")
    ):
        raise SourceError(f"got {type(images).__name__}, expected images")
    if hasattr(images, "__len__") and hasattr(images, "__getitem__"):
        return cast("Sequence[Any]", images)
    return list(images)


def labels_of(items: Sequence[Any] | Indexed) -> list[str]:
    """Return the labels that a data set has, or its items; "" for unknown.

    Raises:
        SourceError: A label is neither text nor an integer, or no class has its number.
    """
    names = ("targets", "labels", "_labels")
    given = next((found for name in names if (found := getattr(items, name, None)) is not None), None)
    if given is None:
        is_pair = isinstance(items[0], tuple) and len(items[0]) > 1
        given = [items[index][1] for index in range(len(items))] if is_pair else [None] * len(items)
    return _texts(given, getattr(items, "classes", None))


def _texts(labels: Any, classes: Sequence[str] | None) -> list[str]:
    values = labels.tolist() if hasattr(labels, "tolist") else list(labels)
    return [_label(value, classes) for value in values]


def _number_of(version: str) -> int:
    return int.from_bytes(hashlib.sha256(version.encode()).digest()[:7], "little")


def _label(value: Any, classes: Sequence[str] | None) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    try:
        number = value.__index__()
    except (AttributeError, TypeError):
        raise SourceError(f"labels: got {value!r}, expected texts or integers") from None
    if classes is None:
        return str(number)
    if not 0 <= number < len(classes):
        raise SourceError(f"labels: got {number}, expected the number of one of the {len(classes)} classes")
    return str(classes[number])


def _split(text: str, name: str) -> Split:
    if text and text.lower() not in SPLIT_CODES:
        raise SourceError(f"{name}: split: got {text!r}, expected {', '.join(SPLIT_CODES)}, or nothing")
    return SPLIT_CODES.get(text.lower(), Split.NONE)
