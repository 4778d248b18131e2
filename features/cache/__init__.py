"""Feature cache: one HDF5 file that survives killed processes, full disks and changes of the image set."""

from frostline.features.cache.earlier_files import made_with
from frostline.features.cache.file.layout import BLOCK_ROWS, Layout
from frostline.features.cache.file.part import Part
from frostline.features.cache.merge import merge_parts
from frostline.features.cache.opening import open_writer
from frostline.features.cache.reader import CacheInfo, FeatureCache, Timing, VerifyReport
from frostline.features.cache.writing.writer import CacheWriter

__all__ = [
    "BLOCK_ROWS",
    "CacheInfo",
    "CacheWriter",
    "FeatureCache",
    "Layout",
    "Part",
    "Timing",
    "VerifyReport",
    "made_with",
    "merge_parts",
    "open_writer",
]
