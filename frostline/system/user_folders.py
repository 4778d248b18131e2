"""Folders that the operating system provides for each user."""

import os
import sys
from pathlib import Path


def user_cache() -> Path:
    """Return the folder for files of Frostline that can be computed again. It may not exist.

    It is ``frostline`` in ``XDG_CACHE_HOME`` if that is set, on any system; else in ``~/Library/Caches`` on macOS, in
    ``LOCALAPPDATA`` on Windows, and in ``~/.cache`` elsewhere.

    Raises:
        OSError: The user has no home folder.
    """
    return _base() / "frostline"


def _base() -> Path:
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return Path(chosen)
    try:
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches"
        if os.name == "nt" and (local := os.environ.get("LOCALAPPDATA")):
            return Path(local)
        return Path.home() / ".cache"
    except RuntimeError as error:  # Path.home
        raise OSError(f"there is no folder for caches ({error}); set XDG_CACHE_HOME") from None
