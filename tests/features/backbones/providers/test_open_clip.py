"""Image towers of open_clip, on a stand-in for its interface."""

import sys
from importlib.machinery import ModuleSpec
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from frostline import registry
from frostline.features.backbones import load_backbone
from frostline.features.errors import BackboneError
from frostline.features.spec import Transform
from frostline.testing import BackboneSourceContract
from tests.features.networks import Quarters


def test_open_clip_without_its_extra_says_what_to_install(monkeypatch):
    monkeypatch.setattr(registry, "find_spec", lambda _name: None)
    with pytest.raises(BackboneError, match=r"pip install 'frostline\[open-clip\]'"):
        load_backbone("open_clip:ViT-B-32/openai")


@pytest.fixture
def open_clip(monkeypatch):
    """Stands in for open_clip's interface, with a tiny image tower."""

    def create_model(name, pretrained=None):
        assert (name, pretrained) in {("ViT-T", None), ("ViT-T", "tiny")}
        return SimpleNamespace(visual=nn.Sequential(Quarters(), nn.Linear(12, 5)))

    module = SimpleNamespace(
        __spec__=ModuleSpec("open_clip", None),
        __version__="9.9",
        list_pretrained=lambda: [("ViT-T", "tiny")],
        create_model=create_model,
        get_model_preprocess_cfg=lambda _model: {
            "size": 48,
            "mode": "RGB",
            "mean": (0.5, 0.5, 0.5),
            "std": (0.5, 0.5, 0.5),
            "interpolation": "bicubic",
            "resize_mode": "shortest",
            "fill_color": 0,
        },
        get_pretrained_cfg=lambda _name, _tag: {"hf_hub": "nobody/tiny/", "mean": (0.25, 0.25, 0.25)},
    )
    monkeypatch.setitem(sys.modules, "open_clip", module)


@pytest.mark.usefixtures("open_clip")
def test_open_clip_gives_its_image_tower(tmp_path):
    backbone = load_backbone("open_clip:ViT-T/tiny")
    assert backbone.transform == Transform(48, "shortest", (48, 48), "bicubic", (0.25,) * 3, (0.5,) * 3)
    assert backbone.layers()["embedding"].dim == 5
    assert "logits" not in backbone.layers()
    whole = {f"visual.{key}": value for key, value in backbone.module.state_dict().items()} | {
        "text.x": torch.ones(1)
    }
    torch.save(whole, tmp_path / "clip.pth")
    assert (
        load_backbone("ViT-T/tiny", weights=tmp_path / "clip.pth").weights_sha256 == backbone.weights_sha256
    )
    with pytest.raises(BackboneError, match="did you mean open_clip:ViT-T/tiny"):
        load_backbone("open_clip:ViT-T")


@pytest.mark.usefixtures("open_clip")
class TestOpenClip(BackboneSourceContract):
    prefix = "open_clip"
    name = "ViT-T/tiny"
