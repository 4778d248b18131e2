"""Pretrained image networks, by name."""

from features.backbones.backbone import Backbone
from features.backbones.catalog import (
    BackboneInfo,
    count_backbones,
    describe,
    list_backbones,
    list_stages,
    resolve_layers,
)
from features.backbones.cutting import Lower, Upper, trunk
from features.backbones.layers import LayerInfo
from features.backbones.load import load_backbone
from features.backbones.module import FeatureModule
from features.backbones.network import Network, Source
from features.backbones.stages import Stage, find_stage
from features.backbones.tuned import load_tuned, save_tuned

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
    "list_stages",
    "load_backbone",
    "load_tuned",
    "resolve_layers",
    "save_tuned",
    "trunk",
]
