"""What can go wrong between an image and its cached feature vector."""

from frostline.errors import FrostlineError


class FeaturesError(FrostlineError):
    """Root of every error this package raises on purpose."""


class SourceError(FeaturesError, ValueError):
    """A folder or manifest can't be read as a set of images."""


class BackboneError(FeaturesError, ValueError):
    """No backbone of that name, or one that can't be built here."""


class WeightsError(FeaturesError, ValueError):
    """Weights that are missing, unsafe to load, or not of this backbone."""


class LayerError(FeaturesError, ValueError):
    """A layer or pool that this backbone doesn't have."""


class CacheFormatError(FeaturesError, ValueError):
    """A file that is not a Frostline cache, or one that must not be trusted."""


class CacheMismatchError(FeaturesError, ValueError):
    """A cache that was made from another specification."""


class PartError(FeaturesError, ValueError):
    """A part of a cache that there can't be, or parts that don't make a whole."""


class CacheBusyError(FeaturesError, OSError):
    """Another process is writing this cache."""


class ChecksumError(FeaturesError, OSError):
    """Cached bytes that are not the bytes that were written."""
