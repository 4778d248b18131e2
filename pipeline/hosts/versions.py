"""Time stamp and library versions of a result."""

import datetime
import platform
from importlib import metadata

_LIBRARIES = ("frostline", "torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "h5py", "pillow")


def now() -> str:
    """Return the time in UTC, to the second, as ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that results depend on."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in _LIBRARIES}
