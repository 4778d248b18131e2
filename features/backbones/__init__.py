"""Pretrained image networks, by name."""

from features.backbones.backbone import Backbone
from features.backbones.catalog import BackboneInfo, count_backbones, describe, list_backbones
from features.backbones.cutting import Lower, Upper, trunk
from features.backbones.layers import LayerInfo
from features.backbones.module import FeatureModule
from features.backbones.network import Network, Source
from features.backbones.registry import load_backbone
from features.backbones.stages import Stage, find_stage

__all__ = [
    "Backbone",
    "BackboneInfo",
    "FeatureModule",
    "LayerInfo",
    "Lower",
    "Network",
    "Source",
    "Stage",
    "Upper",
    "count_backbones",
    "describe",
    "find_stage",
    "list_backbones",
    "load_backbone",
    "trunk",
]
