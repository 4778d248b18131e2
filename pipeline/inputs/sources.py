"""Image sources of the stages, opened from a path or passed by the caller."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import cast

from frostline.errors import OptionError
from frostline.features.errors import SourceError
from frostline.features.sources import (
    Images,
    SourceSummary,
    images_source,
    limited,
    open_paths,
    open_source,
    summarise,
)
from frostline.features.sources.opening import find_kind
from frostline.features.sources.remote.urls import is_set, is_url
from frostline.features.table import ImageSource
from frostline.pipeline.options.sources import RemoteOptions, SourceOptions
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
            return closing(
                open_source(data, limit=options.limit, **options.reading(), access=options.access())
            )
    for name in (*options.reading(), *options.remote()):
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


def named_images(
    images: "str | Path | Sequence[str | Path] | ImageSource | Images", options: RemoteOptions
) -> ImageSource:
    """Return the image source itself, that of a data set that is no folder of files, or of the named files and folders.

    Entries that are skipped in the named folders are reported.

    Raises:
        SourceError: A path does not exist, or a folder holds no image.
        OptionError: `images` is none of these.
    """
    paths = [images] if isinstance(images, str | Path) else images
    where = ""
    if not isinstance(paths, Sequence) or not all(isinstance(path, str | Path) for path in paths):
        for name in options.remote():
            raise OptionError(f"{name}: images were passed, not their URLs; pass URLs, or leave out {name}")
        source = passed_source(cast("ImageSource | Images", images))
    elif len(paths) == 1 and _is_set(str(paths[0])):
        source = open_source(paths[0], access=options.access())
        where = f"{source.root}: "
    else:
        source = open_paths(paths, options.access())
    notes = source.notes
    if text := notes.skipped.describe():
        options.report.note(f"{len(source.table)} images found; skipped: {text}")
    for remark in notes.remarks:
        options.report.warn(f"{where}{remark}.")
    return source


def _is_set(path: str) -> bool:
    """Return whether a path names a data set as a whole: any source of images but a folder of image files."""
    if is_url(path):
        return is_set(path)
    kind = find_kind(path)
    return kind is not None and not (kind.locate and Path(path).is_dir())
