"""Image sources of the stages, opened from a path or passed by the caller."""

from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path

from frostline.features.sources import limited, open_source
from frostline.features.table import ImageSource


def opened_source(data: str | Path | ImageSource, limit: int | None) -> AbstractContextManager[ImageSource]:
    """Return a context manager that yields the image source and closes it on exit if it was opened here.

    Args:
        data: Image folder or manifest, see `features.sources.open_source`; or any other image source.
        limit: Use at most this many images, evenly spaced; None for all.

    Raises:
        SourceError: The images can't be listed, or the limit is less than 1.
    """
    if isinstance(data, str | Path):
        return closing(open_source(data, limit=limit))
    return nullcontext(limited(data, limit))
