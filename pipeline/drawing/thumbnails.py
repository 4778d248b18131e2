"""Thumbnails of the images of a cache, for plots and reports."""

import base64
import functools
import io
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from frostline.features.errors import SourceError
from frostline.features.images.decoders import DECODERS, DecoderError, decoder_of
from frostline.features.images.decoding import MAX_FILE_BYTES, DecodeError
from frostline.features.sources import find_kind, open_source
from frostline.features.sources.remote.stores.connections import fetch
from frostline.features.table import ImageSource
from frostline.pipeline.drawing.lettering import legible
from frostline.pipeline.inputs.joined_caches import AnyCache, find, members
from frostline.pipeline.progress import Reporter
from frostline.system.files import read_regular

THUMBNAIL_SIDE = 256
"""Longest side of a thumbnail in a plot, in pixels."""


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

    cache: AnyCache
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

    def warn(self, report: Reporter) -> None:
        """Report why there are no pictures, if there are none."""
        if self.obstacle:
            report.warn(f"{self.obstacle} In Python, pass the source as `source`.")


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
    """Return a picture as a data URI, for an HTML page."""
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
def opened_pictures(cache: AnyCache, source: ImageSource | None = None) -> Iterator[Pictures]:
    """Return a context manager that yields the images of a cache.

    Files of a folder or manifest are read without listing it. A source that another package opens by name is opened
    again.

    Args:
        cache: The cache.
        source: Source of the images; None for the one that the cache names.
    """
    first = members(cache)[0]
    decoder = decoder_of(first.spec.decoder)
    try:
        DECODERS[decoder]  # which may be of a package that is not installed here
        kind = None if source is not None else find_kind(cache.source)
        locate = kind.locate if kind and cache.rows else None
        if locate and locate(cache.source, str(cache.ids[0])) is None:
            locate = None
        opened = open_source(cache.source, **first.notes.options) if kind and not locate else None
    except (SourceError, DecoderError) as error:
        yield Pictures(cache, _nothing, obstacle=f"Images are not shown: {error}.")
        return
    if source is not None:
        yield Pictures(cache, _reader(source), decoder)
    elif locate:
        yield Pictures(cache, functools.partial(_located, locate, cache.source), decoder)
    elif opened is None:
        why = f"their source, {cache.source}, can't be opened by this name here"
        yield Pictures(cache, _nothing, obstacle=f"Images are not shown, because {why}.")
    else:
        with closing(opened):
            yield Pictures(cache, _reader(opened), decoder)


def check_source(cache: AnyCache, source: ImageSource | None) -> None:
    """Raise `SourceError` if the given source has none of the images of a cache."""
    if source is not None and (find(cache.ids, _names(source)) < 0).all():
        raise SourceError(
            f"{source.root} has none of the {cache.rows} images of {cache.path}, which were read from {cache.source};"
            " pass the source that the cache was extracted from"
        )


def _names(source: ImageSource) -> Any:
    return np.strings.decode(source.table.ids, "utf-8")


def _reader(source: ImageSource) -> Callable[[str], bytes]:
    rows = {str(name): row for row, name in enumerate(_names(source))}

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


def draw_thumbnail(axes: Any, thumbnail: Thumbnail, title: str) -> None:
    """Draw an image into matplotlib axes, or the name of an image that can't be read."""
    axes.axis("off")
    if thumbnail.picture:
        axes.imshow(np.asarray(thumbnail.picture))
    else:
        axes.text(
            0.5,
            0.5,
            f"(no picture)\n{legible(thumbnail.name)}",
            ha="center",
            va="center",
            fontsize=7,
            wrap=True,
        )
    axes.set_title(title, fontsize=9, wrap=True)
