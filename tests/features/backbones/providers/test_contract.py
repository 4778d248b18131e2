"""The sources that need no download meet the contract of sources; open_clip, on a stand-in, in its own tests."""

import pytest
import timm
from torch import nn

from frostline.features.backbones.network import Network
from frostline.features.backbones.providers.registry import SOURCES
from frostline.features.backbones.readout import OutputReadout
from frostline.features.backbones.weights import load_file, seed_of_random_weights, seeded
from frostline.features.errors import WeightsError
from frostline.features.spec import Transform
from frostline.testing import BackboneSourceContract
from tests.helpers.contracts import covered


class TestEmbedded(BackboneSourceContract):
    prefix = "embedded"
    name = "efficientnet_lite0"
    weights = None


class TestTimm(BackboneSourceContract):
    prefix = "timm"
    name = "test_resnet"


class TestTimmVisionTransformer(BackboneSourceContract):
    prefix = "timm"
    name = "test_vit"


class TestTorchvision(BackboneSourceContract):
    prefix = "torchvision"
    name = "shufflenet_v2_x0_5"


class TestSmall(BackboneSourceContract):
    prefix = "small"
    name = "resnet18"


class OwnSource:
    """A source of one network, as another package has it."""

    prefix = "own"

    def names(self):
        yield "colours.v1"

    def find(self, name):
        return "colours.v1" if name in {"colours", "colours.v1"} else None

    def build(self, name, weights):
        assert name == "colours.v1"
        seed = seed_of_random_weights(weights)
        if weights is None:
            raise WeightsError(
                "own:colours has no pretrained weights; pass --weights FILE or --weights random"
            )
        with seeded(seed or 0):
            module = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        if seed is None:
            load_file(module, weights)
        return Network(module, OWN_TRANSFORM, OutputReadout(), str(weights), versions={"own": "3"})

    def availability(self, _name):
        return "none"

    def version(self):
        return "own 3"


OWN_TRANSFORM = Transform(32, "shortest", (32, 32), "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
OWN = OwnSource()


def own_plugin(weights):
    module = timm.create_model("test_resnet")
    if weights is not None and seed_of_random_weights(weights) is None:
        load_file(module, weights)
    return module, OWN_TRANSFORM


class TestSourceOfAnotherPackage(BackboneSourceContract):
    prefix = "own"
    name = "colours"

    @pytest.fixture(autouse=True)
    def _declared(self, declare):
        declare("frostline.backbone_sources", own=f"{__name__}:OWN")


class TestBackboneOfAnotherPackage(BackboneSourceContract):
    prefix = "plugin"
    name = "own"

    @pytest.fixture(autouse=True)
    def _declared(self, declare):
        declare("frostline.backbones", own=f"{__name__}:own_plugin")


def test_every_built_in_source_is_tested():
    assert set(SOURCES.builtin) - {"open_clip"} <= covered(globals(), BackboneSourceContract, "prefix")
