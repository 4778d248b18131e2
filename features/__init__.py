"""Images to feature vectors to a cache that survives."""

from features.cache import FeatureCache
from features.spec import FeatureSpec, Layer, Transform

__all__ = ["FeatureCache", "FeatureSpec", "Layer", "Transform"]
