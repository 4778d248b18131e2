"""A small network."""

import pytest

from frostline.features.backbones import load_backbone
from tests.features.networks import resized


@pytest.fixture(scope="module")
def resnet():
    return resized(load_backbone("timm:test_resnet", weights="random:3"), 64)
