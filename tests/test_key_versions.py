"""A cache's key tells apart all library versions that may change a feature vector."""

import importlib.util

import PIL
import pytest
import timm
import torch
import torchvision
from PIL import features as pillow_features

import frostline.features.engines.openvino
from frostline.features.backbones import load_backbone
from frostline.features.engines import Plan
from frostline.pipeline.extraction import engine_choice as planning

PLAN = Plan("eager", "fp32", "cpu", 4)


@pytest.fixture
def specification(monkeypatch):
    """Of features that are computed with the versions of now; `features.images.decoders` writes them down when imported."""

    def specify(name="timm:test_resnet", plan=PLAN):
        found = importlib.util.find_spec("frostline.features.images.decoders")
        decoders = importlib.util.module_from_spec(found)
        found.loader.exec_module(decoders)
        monkeypatch.setattr(planning, "describe_decoder", decoders.describe_decoder)
        backbone = load_backbone(name, weights="random")
        return planning.specify(backbone, backbone.resolve_layers(["embedding"]), plan, None)

    return specify


@pytest.mark.parametrize(
    ("library", "field"), [(PIL, "decoder"), (torch, "versions.torch"), (timm, "versions.timm")]
)
def test_another_version_is_another_key(specification, monkeypatch, library, field):
    before = specification()
    assert specification().digest == before.digest
    monkeypatch.setattr(library, "__version__", "99.1")
    after = specification()
    assert after.digest != before.digest
    (difference,) = before.differences(after)
    assert (difference.field, "99.1" in difference.theirs) == (field, True)


def test_another_jpeg_codec_is_another_key(specification, monkeypatch):
    before = specification()
    monkeypatch.setattr(pillow_features, "version", lambda _: "99.1")
    (difference,) = before.differences(specification())
    assert difference.field == "decoder"
    assert difference.theirs == f"pillow {PIL.__version__}, libjpeg 99.1, exif"


def test_another_torchvision_is_another_key_of_its_networks(specification, monkeypatch):
    before = specification("torchvision:squeezenet1_1")
    monkeypatch.setattr(torchvision, "__version__", "99.1")
    (difference,) = before.differences(specification("torchvision:squeezenet1_1"))
    assert difference == ("versions.torchvision", before.versions["torchvision"], "99.1")


def test_another_openvino_is_another_key_of_its_features(specification, monkeypatch):
    def with_version(number):
        monkeypatch.setattr(
            frostline.features.engines.openvino.importlib.metadata, "version", lambda _: number
        )
        return specification(plan=Plan("openvino", "fp32", "cpu", 4))

    (difference,) = with_version("1.0").differences(with_version("2.0"))
    assert difference == ("engine", "openvino 1.0", "openvino 2.0")
