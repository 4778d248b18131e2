"""Errors raised between reading an image and caching its feature vector."""

from frostline.errors import FrostlineError


class FeaturesError(FrostlineError):
    """Base class of the errors that this package raises."""


class SourceError(FeaturesError, ValueError):
    """A source that can't be read as a set of images, or whose images are not those of a cache."""


class BackboneError(FeaturesError, ValueError):
    """An unknown backbone, or one that can't be built on this machine."""


class WeightsError(FeaturesError, ValueError):
    """Weights that are missing, unsafe to load, or made for another backbone."""


class LayerError(FeaturesError, ValueError):
    """A layer or pooling that the backbone doesn't support."""


class SearchError(FeaturesError, ValueError):
    """A query that a cache can't be searched for, or rows that can't be searched."""


class CacheFormatError(FeaturesError, ValueError):
    """A file that is not a Frostline cache, or one that must not be trusted."""


class CacheMismatchError(FeaturesError, ValueError):
    """A cache that was computed with another specification."""


class PartError(FeaturesError, ValueError):
    """An invalid part number, or parts that do not add up to a whole cache."""


class CacheBusyError(FeaturesError, OSError):
    """A cache that another process is writing."""


class ChecksumError(FeaturesError, OSError):
    """Cached bytes that differ from the bytes that were written."""


class VectorsError(FeaturesError, ValueError):
    """Vectors that can't be imported, or what is said of their rows does not fit them."""


class RowsError(FeaturesError, ValueError):
    """Rows that a cache doesn't have, or that have no features."""


class LibraryError(FeaturesError, ImportError):
    """A package required to hand a cache over is not installed."""


class EngineError(FeaturesError, ValueError):
    """An engine, device, precision or batch size that is not available."""


class ConversionError(EngineError):
    """A network that an engine can't convert."""


class DeviceMemoryError(FeaturesError, MemoryError):
    """A batch that doesn't fit into the device's memory."""
