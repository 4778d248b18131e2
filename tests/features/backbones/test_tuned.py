import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from frostline.features.backbones import FeatureModule, load_backbone, save_tuned, trunk
from frostline.features.cache import FeatureCache
from frostline.features.errors import BackboneError, WeightsError
from frostline.features.spec import Transform
from frostline.pipeline import extract, predict, train_head
from tests.helpers.images import write_folder

SMALL = Transform(32, "shortest", (32, 32), "bilinear", (0.5,) * 3, (0.25,) * 3)


def tune(folder, name="timm:test_resnet", transform=SMALL):
    """Train one step, in truth away from what it was, and save it."""
    base = load_backbone(name, weights="random")
    net = trunk(base).train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    net(torch.randn(4, 3, *transform.crop)).square().mean().backward()
    optimizer.step()
    save_tuned(folder, base, net.eval(), transform)
    return base, net


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned")
    return (folder, *tune(folder))


@pytest.fixture
def copied(tuned, tmp_path):
    return shutil.copytree(tuned[0], tmp_path / "copied")


def altered(folder, **fields):
    record = json.loads((folder / "backbone.json").read_text())
    (folder / "backbone.json").write_text(json.dumps(record | fields))


def embeddings(backbone, pixels):
    with torch.inference_mode():
        return FeatureModule(backbone, backbone.resolve_layers(["embedding"]))(pixels)[0]


def test_tuned_backbone_is_base_with_trained_weights(tuned):
    folder, base, net = tuned
    found = load_backbone(f"run:{folder}")
    assert (found.name, found.transform) == (base.name, SMALL)
    assert found.weights_sha256 != base.weights_sha256
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    with torch.inference_mode():
        expected = net((pixels / 255 - 0.5).div(0.25).permute(0, 3, 1, 2))
    torch.testing.assert_close(embeddings(found, pixels), expected, rtol=1e-4, atol=1e-5)
    assert "logits" not in found.layers()  # the classifier was of other classes


def test_origin_loads_same_weights_by_name_of_base(tuned):
    found = load_backbone(f"run:{tuned[0]}")
    again = load_backbone(found.name, weights=found.origin)
    assert again.weights_sha256 == found.weights_sha256


@pytest.mark.parametrize(
    "name", ["embedded:efficientnet_lite0", "small:vgg11_bn", "torchvision:mobilenet_v3_small"]
)
def test_every_source_loads_its_trained_backbone(name, tmp_path):
    side = dataclasses.replace(SMALL, resize=64, crop=(64, 64))
    _, net = tune(tmp_path, name, side)
    found = load_backbone(f"run:{tmp_path}")
    again = load_backbone(found.name, weights=found.origin)
    assert again.weights_sha256 == found.weights_sha256
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(found.module(images), net(images), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(again.module(images), net(images), rtol=1e-4, atol=1e-5)


def test_it_can_be_tuned_again(tuned, tmp_path):
    first = load_backbone(f"run:{tuned[0]}")
    save_tuned(tmp_path / "new" / "run", first, trunk(first), first.transform)
    second = load_backbone(f"run:{tmp_path}/new/run")
    assert (second.weights_sha256, second.transform) == (first.weights_sha256, first.transform)
    assert sorted(each.name for each in (tmp_path / "new" / "run").iterdir()) == [
        "backbone.json",
        "backbone.safetensors",
    ]


def test_extract_train_and_predict_with_it(tuned, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    classes = "ab"
    data = write_folder(tmp_path / "data", [f"{c}/{number}.png" for c in classes for number in range(12)])
    done = extract(data, backbone=f"run:{tuned[0]}", cache="f.h5")
    cache = FeatureCache.open(done.cache)
    assert (cache.spec.backbone, cache.spec.transform) == ("timm:test_resnet.r160_in1k", SMALL)
    assert cache.weights == str(tuned[0] / "backbone.safetensors")
    run = train_head(done.cache, "linear", params={"l2": 1e-2}, run=tmp_path / "run")
    monkeypatch.chdir("/")
    (one,) = predict(run.run, [data / "a" / "0.png"], device="cpu")
    assert one.error is None
    assert one.label in classes
    assert np.isfinite(cache.features()).all()


def test_changed_weights_are_refused(copied):
    state = load_file(copied / "backbone.safetensors")
    state["conv1.0.weight"][0, 0, 0, 0] += 1e-3
    save_file(state, copied / "backbone.safetensors")
    with pytest.raises(WeightsError, match=r"SHA-256 is .*, expected .* of backbone.json.*train again"):
        load_backbone(f"run:{copied}")


def test_missing_tensors_are_named(copied):
    state = load_file(copied / "backbone.safetensors")
    del state["layer4.0.conv1.weight"]
    save_file(state, copied / "backbone.safetensors")
    with pytest.raises(WeightsError, match=r"1 missing: layer4.0.conv1.weight"):
        load_backbone(f"run:{copied}")


def test_missing_weights_are_named(copied):
    (copied / "backbone.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"backbone.safetensors: No such file"):
        load_backbone(f"run:{copied}")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format_version": 2}, r"'frostline backbone' 2; expected 'frostline backbone' 1.*newer"),
        ({"format": "other"}, r"format 'other' 1"),
        ({"transform": {"resize": 32}}, r"not the record of a backbone: .*resize_mode"),
        ({"backbone": "timm:no_such_net"}, r"not known to timm"),
        ({"backbone": "run:elsewhere"}, r"no backbone source 'run'"),
    ],
)
def test_malformed_record_is_refused(copied, fields, message):
    altered(copied, **fields)
    with pytest.raises(BackboneError, match=message):
        load_backbone(f"run:{copied}")


def test_folder_without_backbone_is_refused(tmp_path):
    with pytest.raises(
        BackboneError, match=r"no backbone.json found.*A run of train-head has no backbone of its own"
    ):
        load_backbone(f"run:{tmp_path}")


def test_other_weights_for_a_tuned_backbone_are_refused(tuned):
    with pytest.raises(WeightsError, match=r"already has its own weights; got random"):
        load_backbone(f"run:{tuned[0]}", weights="random")
