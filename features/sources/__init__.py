"""Image sets: folders, manifests, archives, tables and arrays, listed at once and read image by image."""

from frostline.features.sources.files import FileSource, PathSource
from frostline.features.sources.kinds import SourceKind
from frostline.features.sources.memory import Images, images_source
from frostline.features.sources.opening import find_kind, limited, open_paths, open_source, source_name
from frostline.features.sources.summary import SourceSummary, summarise
from frostline.features.table import ImageSource, ImageTable

__all__ = [
    "FileSource",
    "ImageSource",
    "ImageTable",
    "Images",
    "PathSource",
    "SourceKind",
    "SourceSummary",
    "find_kind",
    "images_source",
    "limited",
    "open_paths",
    "open_source",
    "source_name",
    "summarise",
]
