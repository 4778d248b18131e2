"""The feature cache: one HDF5 file that survives kills, full disks and changing image sets."""

from features.cache.earlier import made_with
from features.cache.layout import BLOCK_ROWS, Layout
from features.cache.merge import merge_parts
from features.cache.opening import open_writer
from features.cache.part import Part
from features.cache.reader import CacheInfo, FeatureCache, Timing, VerifyReport
from features.cache.writer import CacheWriter

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
