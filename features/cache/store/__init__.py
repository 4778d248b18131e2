"""Store of features: a folder of cache files of one specification, searched by the content of images."""

from frostline.features.cache.store.joining import content_table
from frostline.features.cache.store.store import FeatureStore

__all__ = ["FeatureStore", "content_table"]
