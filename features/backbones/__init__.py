"""Pretrained image networks, by name."""

from features.backbones.backbone import Backbone
from features.backbones.catalog import BackboneInfo, count_backbones, describe, list_backbones
from features.backbones.layers import LayerInfo
from features.backbones.module import FeatureModule
from features.backbones.network import Network, Source
from features.backbones.registry import load_backbone

__all__ = [
    "Backbone",
    "BackboneInfo",
    "FeatureModule",
    "LayerInfo",
    "Network",
    "Source",
    "count_backbones",
    "describe",
    "list_backbones",
    "load_backbone",
]
