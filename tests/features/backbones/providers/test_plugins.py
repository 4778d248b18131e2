"""Backbones and sources of backbones that other packages bring."""

import pytest
import timm
import torch

from frostline.features.backbones import count_backbones, list_backbones, load_backbone
from frostline.features.backbones.network import Network
from frostline.features.backbones.readout import OutputReadout
from frostline.features.errors import BackboneError
from frostline.features.spec import Transform
from tests.features.networks import Quarters, features

TINY_TRANSFORM = Transform(32, "shortest", (32, 32), "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def tiny_plugin(weights):
    assert weights in {None, "random"}
    return Quarters(), TINY_TRANSFORM


def timm_plugin(_weights):
    return timm.create_model("test_resnet"), TINY_TRANSFORM


def bad_plugin(_weights):
    return Quarters()


class TinySource:
    """A source of backbones as another package has it."""

    prefix = "tiny"

    def names(self):
        yield "quarters.v1"

    def find(self, name):
        return "quarters.v1" if name in {"quarters", "quarters.v1"} else None

    def build(self, name, weights):
        assert name == "quarters.v1"
        return Network(Quarters(), TINY_TRANSFORM, OutputReadout(), str(weights), versions={"tiny": "3"})

    def availability(self, _name):
        return "local"

    def version(self):
        return "tiny 3"


TINY = TinySource()


@pytest.fixture
def declared(declare):
    """Entry points as an installed package declares them."""
    declare(
        "frostline.backbones",
        tiny=f"{__name__}:tiny_plugin",
        like_timm=f"{__name__}:timm_plugin",
        bad=f"{__name__}:bad_plugin",
        gone=f"{__name__}:no_such_function",
        number=f"{__name__}:TINY_TRANSFORM",
    )


@pytest.mark.usefixtures("declared")
def test_a_plugin_is_found_with_or_without_its_prefix():
    for name in ("tiny", "plugin:tiny"):
        backbone = load_backbone(name)
        assert (backbone.name, backbone.transform) == ("plugin:tiny", TINY_TRANSFORM)
        assert next(iter(backbone.layers())) == "embedding"
        assert "logits" not in backbone.layers()
        pixels = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
        (vectors,) = features(backbone, ["embedding"], pixels)
        quarter = (pixels[:, :16, :16].double() / 255 - 0.5).mean((1, 2)) / 0.25
        torch.testing.assert_close(vectors.view(3, 3, 4)[:, :, 0].double(), quarter, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("declared")
def test_plugin_with_timm_conventions_has_logits():
    assert list(load_backbone("plugin:like_timm").layers())[:2] == ["embedding", "logits"]


@pytest.mark.usefixtures("declared")
@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("bad", r"\(brought 1\.5\) returned a Quarters; expected \(module, transform\)"),
        ("gone", "can't be imported"),
        ("number", "expected a callable weights"),
    ],
)
def test_a_broken_plugin_is_named(name, match):
    with pytest.raises(BackboneError, match=match):
        load_backbone(f"plugin:{name}")


@pytest.mark.usefixtures("cache_home")
def test_a_source_of_another_package_is_searched_last_and_listed(declare):
    declare("frostline.backbone_sources", tiny=f"{__name__}:TINY")
    for name in ("tiny:quarters", "quarters", "tiny:quarters.v1"):
        backbone = load_backbone(name, weights="random")
        assert (backbone.name, backbone.versions["tiny"]) == ("tiny:quarters.v1", "3")
        assert backbone.layers()["embedding"].dim == 12
    assert [info.name for info in list_backbones("tiny:*")] == ["tiny:quarters.v1"]
    assert list(count_backbones())[-1] == "tiny"
    with pytest.raises(BackboneError, match="not known to tiny; did you mean tiny:quarters"):
        load_backbone("tiny:quarter")


@pytest.mark.parametrize("place", ["TinySource", "TINY_TRANSFORM", "TINY"])
def test_source_with_wrong_prefix_is_refused(declare, place):
    declare("frostline.backbone_sources", large=f"{__name__}:{place}")
    with pytest.raises(
        BackboneError, match=r"backbone source 'large' \(.*expected an object with the attributes"
    ):
        load_backbone("large:quarters")
