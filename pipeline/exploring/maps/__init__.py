"""The map stage: a page with the images of a cache as points in two dimensions."""

from frostline.pipeline.exploring.maps.map_cache import CacheMap, MapPoint, map_cache

__all__ = ["CacheMap", "MapPoint", "map_cache"]
