"""Image sources of the stages, opened from a path or passed by the caller."""

from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import cast

from frostline.errors import OptionError
from frostline.features.errors import SourceError
from frostline.features.sources import Images, SourceSummary, images_source, limited, open_source, summarise
from frostline.features.table import ImageSource
from frostline.pipeline.options.sources import SourceOptions
from frostline.pipeline.progress import Reporter


def opened_source(
    data: str | Path | ImageSource | Images, options: SourceOptions
) -> AbstractContextManager[ImageSource]:
    """Return a context manager that yields the image source and closes it on exit if it was opened here.

    Args:
        data: Path of the images, see `frostline.features.sources.open_source`; any other image source; or the images
            themselves, see `frostline.features.sources.images_source`.
        options: How to read a folder or a manifest, and how many of the images to use.

    Raises:
        SourceError: The images can't be listed.
        OptionError: `data` is neither a path nor a source; or it is a source, and an option says how to read a path.
    """
    if isinstance(data, str | Path):
        with options.report.task("Listing the images", None):
            return closing(open_source(data, limit=options.limit, **options.reading()))
    for name in options.reading():
        raise OptionError(
            f"{name}: images were passed, not their path; pass a path, or a source opened with {name}"
        )
    return nullcontext(limited(passed_source(data), options.limit))


def passed_source(data: ImageSource | Images) -> ImageSource:
    """Return an image source that was passed, or the source of images that were passed.

    Raises:
        OptionError: `data` is neither.
    """
    if hasattr(data, "table"):
        return cast("ImageSource", data)
    try:
        return images_source(data)
    except SourceError as error:
        raise OptionError(f"data: {error}. Pass a path, an image source, or images") from None


def summary_of(source: ImageSource, report: Reporter) -> SourceSummary:
    """Return what was found in a source, and report what the user should know of it as warnings."""
    found = summarise(source)
    for remark in found.remarks:
        report.warn(f"{found.source}: {remark}.")
    return found
