"""Interface of a kind of image source."""

from collections.abc import Callable
from dataclasses import dataclass

from frostline.features.table import ImageSource


@dataclass(frozen=True)
class SourceKind:
    """Kind of image source.

    Attributes:
        expects: Description of the accepted input, for messages.
        takes: Function that returns whether the user's input is of this kind.
        open: Function that lists the images. An `OSError` is reported as a failure to read the source.
    """

    expects: str
    takes: Callable[[str], bool]
    open: Callable[[str], ImageSource]
