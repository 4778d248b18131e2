"""Images to feature vectors to a cache that survives."""

from frostline.features.cache import FeatureCache
from frostline.features.spec import FeatureSpec, Layer, Transform

__all__ = ["FeatureCache", "FeatureSpec", "Layer", "Transform"]
