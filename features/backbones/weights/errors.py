"""Errors of weights that can't be loaded, and their wording."""

from collections.abc import Sequence

from frostline.features.errors import WeightsError

_SHOWN = 10


def download_error(name: str, origin: str, error: Exception, remedy: str) -> WeightsError:
    """Return the error for pretrained weights that can't be downloaded, with the location tried and a remedy."""
    return WeightsError(
        f"backbone {name}: its pretrained weights can't be loaded from {origin} ({type(error).__name__}: "
        f"{first_line(error)}). {remedy}"
    )


def first_line(error: Exception) -> str:
    """Return the first line of the message of an error."""
    return str(error).strip().partition("\n")[0]


def some(names: Sequence[str], shown: int = _SHOWN) -> str:
    """Return the first names of a list, separated by commas."""
    return ", ".join(names[:shown]) + (", ..." if len(names) > shown else "")
