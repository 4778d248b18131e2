"""Image sources of the stages, opened from a path or passed by the caller."""

from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path

from frostline.errors import OptionError
from frostline.features.sources import SourceSummary, limited, open_source, summarise
from frostline.features.table import ImageSource
from frostline.pipeline.options.sources import SourceOptions
from frostline.pipeline.progress import Reporter


def opened_source(
    data: str | Path | ImageSource, options: SourceOptions
) -> AbstractContextManager[ImageSource]:
    """Return a context manager that yields the image source and closes it on exit if it was opened here.

    Args:
        data: Images, see `frostline.features.sources.open_source`; or any other image source.
        options: How to read a folder or a manifest, and how many of the images to use.

    Raises:
        SourceError: The images can't be listed.
        OptionError: `data` is neither a path nor a source; or it is a source, and an option says how to read a path.
    """
    if isinstance(data, str | Path):
        with options.report.task("Listing the images", None):
            return closing(open_source(data, limit=options.limit, **options.reading()))
    if not hasattr(data, "table"):
        raise OptionError(f"data: got {data!r}, expected a path or an image source")
    for name in options.reading():
        raise OptionError(f"{name}: an image source was passed, which is listed already; open it with {name}")
    return nullcontext(limited(data, options.limit))


def summary_of(source: ImageSource, report: Reporter) -> SourceSummary:
    """Return what was found in a source, and report what the user should know of it as warnings."""
    found = summarise(source)
    for remark in found.remarks:
        report.warn(f"{found.source}: {remark}.")
    return found
