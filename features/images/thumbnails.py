"""Thumbnails of the images of a cache."""

import base64
import functools
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from frostline.features.cache.imported.facts import tells_images
from frostline.features.errors import SourceError
from frostline.features.images.decoders import DECODERS, DecoderError, decoder_of
from frostline.features.images.decoding import MAX_FILE_BYTES, DecodeError
from frostline.features.sources import find_kind, open_source
from frostline.features.sources.remote.stores.connections import fetch
from frostline.features.spec import FeatureSpec
from frostline.features.table import ImageSource
from frostline.system.files import read_regular


class Named(Protocol):
    """A cache, or several that are read as one."""

    @property
    def ids(self) -> NDArray[np.str_]:
        """(n,) str names of the images."""

    @property
    def source(self) -> str:
        """Where the images are."""


class Thumbnail(NamedTuple):
    """Upright RGB image of a row, with the name of the row; `picture` is None if the image can't be read."""

    name: str
    picture: Image.Image | None


@dataclass(frozen=True, eq=False)
class Pictures:
    """Images of the rows of a cache, read again from their source.

    Attributes:
        cache: The cache.
        read: Function that returns the bytes of an image, given its name. It raises an `OSError` if it can't.
        decoder: Name of the decoder that made the pixels of the cache's features.
        obstacle: Sentence that says why no image can be read; empty if images can be read.
    """

    cache: Named
    read: Callable[[str], bytes]
    decoder: str = "exact"
    obstacle: str = ""

    def thumbnail(self, row: int, side: int) -> Thumbnail:
        """Return the image of a row with sides of at most `side` pixels."""
        name = str(self.cache.ids[row])
        try:
            return Thumbnail(name, load_thumbnail(self.read(name), side, self.decoder))
        except (OSError, DecodeError, MemoryError):
            return Thumbnail(name, None)


def load_thumbnail(file: bytes | Path, side: int, decoder: str = "exact") -> Image.Image:
    """Return an image with sides of at most `side` pixels, decoded as for features.

    Args:
        file: Bytes of the image file, or its path.
        side: Longest side in pixels.
        decoder: Name in `frostline.features.images.decoders.DECODERS`.

    Raises:
        OSError: The file can't be read.
        DecodeError: The image is not readable.
        DecoderError: The decoder is unknown.
    """
    data = read_image(file) if isinstance(file, Path) else file
    picture = DECODERS[decoder].read(data)
    picture.thumbnail((side, side))
    return picture


def data_uri(picture: Image.Image) -> str:
    """Return an image as a URI that holds it, in the format WebP."""
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=75)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def read_image(path: Path) -> bytes:
    """Return the bytes of an image file.

    Raises:
        OSError: The file can't be read, or is too large for an image.
    """
    return read_regular(path, limit=MAX_FILE_BYTES)


@contextmanager
def open_pictures(
    cache: Named,
    spec: FeatureSpec,
    reading: Mapping[str, Any],
    source: ImageSource | None = None,
    *,
    listing: bool = True,
) -> Iterator[Pictures]:
    """Return a context manager that yields the images of a cache.

    Files of a folder or manifest are read without listing it. A source that another package opens by name is opened
    again.

    Args:
        cache: The cache.
        spec: Specification of its features.
        reading: Options that its source was opened with.
        source: Source of the images; None for the one that the cache names.
        listing: Whether a source that has to be listed, such as an archive, is opened.
    """
    if source is None and not tells_images(spec):
        why = "Images are not shown, because the vectors were imported without --images."
        yield Pictures(cache, _nothing, obstacle=why)
        return
    decoder = decoder_of(spec.decoder)
    try:
        DECODERS[decoder]  # which may be of a package that is not installed here
        kind = None if source is not None else find_kind(cache.source)
        locate = kind.locate if kind and len(cache.ids) else None
        if locate and locate(cache.source, str(cache.ids[0])) is None:
            locate = None
        opened = open_source(cache.source, **reading) if kind and not locate and listing else None
    except (SourceError, DecoderError) as error:
        yield Pictures(cache, _nothing, obstacle=f"Images are not shown: {error}.")
        return
    if source is not None:
        yield Pictures(cache, _reader(source), decoder)
    elif locate:
        yield Pictures(cache, functools.partial(_located, locate, cache.source), decoder)
    elif opened is None:
        can = "is opened by listing it" if kind else "can't be opened by this name here"
        yield Pictures(
            cache, _nothing, obstacle=f"Images are not shown, because their source, {cache.source}, {can}."
        )
    else:
        with closing(opened):
            yield Pictures(cache, _reader(opened), decoder)


def source_names(source: ImageSource) -> NDArray[np.str_]:
    """Return the (n,) names of the images of a source."""
    return np.strings.decode(source.table.ids, "utf-8")


def _reader(source: ImageSource) -> Callable[[str], bytes]:
    rows = {str(name): row for row, name in enumerate(source_names(source))}

    def read(name: str) -> bytes:
        if name not in rows:
            raise FileNotFoundError(f"{source.root} has no image {name}")
        return source.read(rows[name])[0]

    return read


def _located(locate: Callable[[str, str], Path | str | None], root: str, name: str) -> bytes:
    """Return the bytes of an image of a source."""
    place = locate(root, name)
    if place is None:
        return _nothing(name)
    return read_image(place) if isinstance(place, Path) else fetch(place, root)


def _nothing(name: str) -> bytes:
    raise FileNotFoundError(f"{name} has no source")
