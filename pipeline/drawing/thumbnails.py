"""Thumbnails in plots."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from frostline.features.errors import SourceError
from frostline.features.images.thumbnails import Pictures, Thumbnail, open_pictures, source_names
from frostline.features.table import ImageSource
from frostline.pipeline.drawing.lettering import legible
from frostline.pipeline.inputs.joined_caches import AnyCache, find, members
from frostline.pipeline.progress import Reporter

THUMBNAIL_SIDE = 256
"""Longest side of a thumbnail in a plot, in pixels."""


@contextmanager
def opened_pictures(cache: AnyCache, source: ImageSource | None = None) -> Iterator[Pictures]:
    """Return a context manager that yields the images of a cache; see `open_pictures`."""
    first = members(cache)[0]
    with open_pictures(cache, first.spec, first.notes.options, source) as pictures:
        yield pictures


def warn_of_obstacle(pictures: Pictures, report: Reporter) -> None:
    """Report why there are no pictures, if there are none."""
    if pictures.obstacle:
        report.warn(f"{pictures.obstacle} In Python, pass the source as `source`.")


def check_source(cache: AnyCache, source: ImageSource | None) -> None:
    """Raise `SourceError` if the given source has none of the images of a cache."""
    if source is not None and (find(cache.ids, source_names(source)) < 0).all():
        raise SourceError(
            f"{source.root} has none of the {cache.rows} images of {cache.path}, which were read from {cache.source};"
            " pass the source that the cache was extracted from"
        )


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
