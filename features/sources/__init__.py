"""Image sets on disk: folders and manifests, listed at once and read image by image."""

from frostline.features.sources.files import FileSource, PathSource
from frostline.features.sources.kinds import SourceKind
from frostline.features.sources.opening import find_kind, image_paths, limited, open_source
from frostline.features.table import ImageSource, ImageTable

__all__ = [
    "FileSource",
    "ImageSource",
    "ImageTable",
    "PathSource",
    "SourceKind",
    "find_kind",
    "image_paths",
    "limited",
    "open_source",
]
