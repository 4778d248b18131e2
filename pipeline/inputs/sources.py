"""The images that a stage reads: opened from what the user named, or given as they are."""

from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path

from frostline.features.sources import limited, open_source
from frostline.features.table import ImageSource


def opened_source(data: str | Path | ImageSource, limit: int | None) -> AbstractContextManager[ImageSource]:
    """Give the images, and close them afterwards if they were opened here.

    Args:
        data: Image folder or manifest, see `features.sources.open_source`; or any other source of images.
        limit: Take at most this many of them, evenly spaced; None for all.

    Raises:
        SourceError: The images can't be listed, or the limit is less than 1.
    """
    if isinstance(data, str | Path):
        return closing(open_source(data, limit=limit))
    return nullcontext(limited(data, limit))
