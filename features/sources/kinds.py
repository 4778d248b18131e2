"""Interface of a kind of image source."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from frostline.features.table import ImageSource


@dataclass(frozen=True)
class SourceKind:
    """Kind of image source.

    Attributes:
        expects: Description of the accepted input, for messages.
        accepts: Function that returns whether the user's input is of this kind.
        open: Function that lists the images, given the user's input and the keyword arguments named in `options`. An
            `OSError` is reported as a failure to read the source.
        locate: Function that returns the path or the URL of an image without listing the images, given the root of the
            source and the id of the image; None for an image that only a listing finds. None if that is so for all.
        options: Options of `open_source` that `open` takes.
    """

    expects: str
    accepts: Callable[[str], bool]
    open: Callable[..., ImageSource]
    locate: Callable[[str, str], Path | str | None] | None = None
    options: tuple[str, ...] = ()
