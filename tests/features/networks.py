"""Small networks, and their features."""

import dataclasses

import torch
from torch import nn

from frostline.features.backbones import Backbone, FeatureModule


class Quarters(nn.Module):
    """Mean colours of an image's four quarters."""

    def __init__(self):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(2)

    def forward(self, images):
        return self.pool(images).flatten(1)


def resized(backbone, side):
    """The same network for square images of another size."""
    transform = backbone.transform
    resize = (side, side) if isinstance(transform.resize, tuple) else side
    transform = dataclasses.replace(transform, resize=resize, crop=(side, side))
    return Backbone(backbone.name, dataclasses.replace(backbone.network, transform=transform))


def features(backbone, names, pixels, **options):
    """Vectors of the named layers, one tensor per layer."""
    module = FeatureModule(backbone, backbone.resolve_layers(names), **options)
    with torch.inference_mode():
        return module(pixels)
