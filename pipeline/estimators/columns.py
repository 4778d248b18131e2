"""Input of estimators: one column of images in a list, an array or a data frame."""

import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from frostline.features.errors import SourceError
from frostline.features.images.decoding import MAX_FILE_BYTES
from frostline.features.sources.arrays.encoding import check_images
from frostline.features.sources.memory import as_file
from frostline.system.files import read_with_status

_EXPECTED = (
    "expected images: paths, bytes of image files, pictures of Pillow or uint8 arrays, in a list, an array or one column"
    " of a data frame"
)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_BYTES = bytes | bytearray | memoryview


@dataclass(frozen=True, eq=False)
class ImageColumn:
    """Images of an input, in its order.

    Attributes:
        items: Paths, bytes of image files, pictures of Pillow or uint8 arrays.
    """

    items: Any

    def __len__(self) -> int:
        return len(self.items)

    def path(self, row: int) -> str | None:
        """Return the path of an image; None for an image that is not a file."""
        item = self.items[row]
        return os.fspath(item) if isinstance(item, str | os.PathLike) else None

    def name(self, row: int) -> str:
        """Return a name of an image for messages."""
        path = self.path(row)
        return f"row {row}" if path is None else f"row {row} ({path})"

    def read(self, row: int) -> tuple[bytes, os.stat_result | None]:
        """Return an image as the bytes of a file, and the status of the file before it was read.

        Raises:
            OSError: The file can't be read.
            SourceError: The picture has a mode that no lossless file holds.
        """
        path = self.path(row)
        return (as_file(self.items[row]), None) if path is None else read_with_status(path, MAX_FILE_BYTES)


def image_column(X: Any) -> ImageColumn:
    """Return the images of an input, of which no file is read.

    Args:
        X: Images, see `frostline.ImageFeatures.transform`.

    Raises:
        SourceError: The input is not one column of images, is empty, or has a missing value.
    """
    items = _items(X)
    if not len(items):
        raise SourceError("X: holds no image; expected one or more")
    if not (isinstance(items, np.ndarray) and items.dtype == np.uint8):
        for row, item in enumerate(items):
            _check(item, row)
    return ImageColumn(items)


def _items(X: Any) -> Any:
    if isinstance(X, str | os.PathLike | Image.Image | Mapping | set | frozenset | _BYTES):
        raise SourceError(f"X: got one {type(X).__name__}; {_EXPECTED}")
    if hasattr(X, "shape") and hasattr(
        X, "columns"
    ):  # a table; the columns of a lazy frame are costly to find
        X = _only_column(X)
    if hasattr(X, "to_list"):  # a series of pandas or polars
        return X.to_list()
    if hasattr(X, "__array__") and hasattr(X, "shape"):
        return _of_array(np.asarray(X))
    if not (isinstance(X, Iterable) and hasattr(X, "__len__") and hasattr(X, "__getitem__")):
        raise SourceError(f"X: got {type(X).__name__}; {_EXPECTED}")
    return list(X)


def _only_column(X: Any) -> Any:
    if not (hasattr(X, "iloc") or hasattr(X, "get_column")):
        raise SourceError(
            f"X: got {type(X).__name__}; {_EXPECTED} of pandas or polars, such as X.to_pandas() of a table of Arrow"
        )
    if len(X.shape) != 2 or X.shape[1] != 1:
        names = ", ".join(map(str, X.columns))
        raise SourceError(
            f"X: got a data frame with the {len(X.columns)} columns {names}; expected one column of images. Select it"
            " with X[['NAME']], or in a pipeline with a ColumnTransformer"
        )
    return X.iloc[:, 0] if hasattr(X, "iloc") else X[X.columns[0]]


def _of_array(X: np.ndarray[Any, Any]) -> Any:
    if X.dtype.kind in "OUT":
        if X.ndim == 2 and X.shape[1] != 1:
            raise SourceError(f"X: got an array with {X.shape[1]} columns; expected one column of images")
        if X.ndim not in {1, 2}:
            raise SourceError(f"X: got an array of shape {X.shape} and type {X.dtype}; {_EXPECTED}")
        return X.reshape(-1).tolist()
    if X.dtype.kind == "S":
        raise SourceError(
            "X: got an array of byte strings, which drops zeros at the end of a file; pass a list, or an array of type"
            " object"
        )
    if X.ndim and not len(X):
        return []
    check_images(X.shape, X.dtype, "X")
    return X


def _check(item: Any, row: int) -> None:
    """Raise `SourceError` for an item that can't be an image, whatever its content."""
    if isinstance(item, str):
        if not item.strip():
            raise SourceError(f"X: row {row} is an empty text; expected the path of an image")
        if _URL.match(item):
            raise SourceError(
                f"X: row {row} is the address {item!r}, and only paths are read here; download the image first"
            )
    elif isinstance(item, os.PathLike | Image.Image | _BYTES):
        if isinstance(item, os.PathLike) and not isinstance(os.fspath(item), str):
            raise SourceError(f"X: row {row} is a path in bytes; expected text or pathlib.Path")
    elif item is None or type(item).__name__ == "NAType" or (isinstance(item, float) and math.isnan(item)):
        raise SourceError(f"X: row {row} is missing ({item!r}); drop such rows, or put an image in its place")
    elif hasattr(item, "__array__") and hasattr(item, "dtype") and hasattr(item, "shape") and len(item.shape):
        pixels = np.asarray(item)
        check_images((1, *pixels.shape), pixels.dtype, f"X: row {row}")
    else:
        raise SourceError(f"X: row {row} is of type {type(item).__name__}; {_EXPECTED}")
