"""Pretrained image networks, loaded by name."""

from frostline.features.backbones.backbone import Backbone
from frostline.features.backbones.catalog import (
    BackboneInfo,
    count_backbones,
    describe,
    list_backbones,
    list_stages,
    resolve_layers,
)
from frostline.features.backbones.forward.module import FeatureModule
from frostline.features.backbones.frost_line import Lower, Upper, trunk
from frostline.features.backbones.layers import LayerInfo
from frostline.features.backbones.loader import load_backbone
from frostline.features.backbones.network import Network, Source
from frostline.features.backbones.stages import Stage, find_stage
from frostline.features.backbones.tuned import load_tuned, save_tuned

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
