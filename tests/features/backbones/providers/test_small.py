import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from frostline.features.backbones import Upper, describe, list_backbones, load_backbone, trunk
from frostline.features.backbones.providers.registry import find
from frostline.features.errors import WeightsError
from frostline.pipeline import extract
from tests.features.networks import resized
from tests.helpers.images import write_folder

pytestmark = pytest.mark.usefixtures("cache_home")

# Millions of parameters, for 10 classes, of the networks in https://github.com/kuangliu/pytorch-cifar, as papers quote them.
QUOTED = {
    "resnet18": 11.17,
    "resnet34": 21.28,
    "resnet50": 23.52,
    "preactresnet18": 11.17,
    "densenet121": 6.96,
    "vgg11_bn": 9.23,
    "vgg16_bn": 14.73,
}

# torchvision publishes both for the papers' own networks at 224 x 224 pixels. Channels of the stem and the last map.
PUBLISHED = {
    "resnet18": (models.ResNet18_Weights.IMAGENET1K_V1, 64, 512),
    "resnet34": (models.ResNet34_Weights.IMAGENET1K_V1, 64, 512),
    "resnet50": (models.ResNet50_Weights.IMAGENET1K_V1, 64, 2048),
    "densenet121": (models.DenseNet121_Weights.IMAGENET1K_V1, 64, 1024),
}
PUBLISHED_VGG = {
    "vgg11_bn": models.VGG11_BN_Weights.IMAGENET1K_V1,
    "vgg16_bn": models.VGG16_BN_Weights.IMAGENET1K_V1,
}
HIDDEN = (25088 * 4096 + 4096 * 4096, 4096 + 4096)  # weights and biases of VGG's hidden layers


def test_all_are_listed_with_costs_and_without_weights():
    listed = {each.name: each for each in list_backbones("small:*")}
    assert set(listed) == {f"small:{name}" for name in QUOTED}
    for name, millions in QUOTED.items():
        found = listed[f"small:{name}"]
        assert round(found.parameters / 1e6, 2) == millions
        assert (found.weights, found.input_size) == ("none", (32, 32))
    # Activation before convolution changes no convolution.
    assert listed["small:preactresnet18"].gflops == pytest.approx(listed["small:resnet18"].gflops, rel=1e-6)
    assert listed["small:resnet18"].gflops == pytest.approx(0.56, abs=0.005)


@pytest.mark.parametrize("name", PUBLISHED)
def test_network_equals_paper_except_stem_pooling_and_classes(name):
    published, stem, width = PUBLISHED[name]
    found = describe(f"small:{name}")
    stem_then, stem_now = 3 * 7 * 7 * stem, 3 * 3 * 3 * stem
    classes_then, classes_now = 1000 * width, 10 * width
    assert (
        found.parameters
        == published.meta["num_params"] - stem_then + stem_now - classes_then - 1000 + classes_now + 10
    )
    # behind the stem, the papers' maps have 56 pixels a side where these have 32
    blocks = published.meta["_ops"] * 1e9 - stem_then * 112**2 - classes_then
    flops = blocks * (32 / 56) ** 2 + stem_now * 32**2 + classes_now
    assert found.gflops == pytest.approx(flops / 1e9, rel=2e-3)


@pytest.mark.parametrize("name", PUBLISHED_VGG)
def test_vgg_equals_paper_except_hidden_layers_and_classes(name):
    published = PUBLISHED_VGG[name]
    found = describe(f"small:{name}")
    weights, biases = HIDDEN
    classes_then, classes_now = 4096 * 1000, 512 * 10
    assert (
        found.parameters
        == published.meta["num_params"] - weights - biases - classes_then - 1000 + classes_now + 10
    )
    convolutions = published.meta["_ops"] * 1e9 - weights - classes_then
    assert found.gflops == pytest.approx((convolutions / 7**2 + classes_now) / 1e9, rel=2e-3)


@pytest.mark.parametrize(
    ("name", "side"),
    [(name, 28) for name in ("resnet18", "preactresnet18", "densenet121", "vgg11_bn")]
    + [("vgg11_bn", 48), ("resnet18", 64), ("vgg11_bn", 64)],
)
def test_other_sizes_and_cuts(name, side):
    backbone = resized(load_backbone(f"small:{name}", weights="random"), side)
    stages, net = backbone.stages(), trunk(backbone)
    with torch.inference_mode():
        assert net(torch.randn(2, 3, side, side)).shape == (2, backbone.layers()["embedding"].dim)
    if side == 28:
        Upper(net, stages, len(stages) // 2, (side, side))
        first = "features.0" if name.startswith("vgg") else "stem"
        assert stages[0].name == first
        assert stages[0].shape[1:] == ((14, 14) if name.startswith("vgg") else (28, 28))  # VGG pools at once


def test_it_learns():
    net = trunk(load_backbone("small:resnet18", weights="random")).train()
    head = torch.nn.Linear(512, 2)
    optimizer = torch.optim.SGD([*net.parameters(), *head.parameters()], lr=0.02)
    labels = torch.tensor([0, 1] * 2)
    images = torch.randn(4, 3, 32, 32) * 0.1 + labels.view(-1, 1, 1, 1)
    losses = []
    for _ in range(5):
        loss = torch.nn.functional.cross_entropy(head(net(images)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_missing_weights_error_recommends_training(tmp_path):
    with pytest.raises(
        WeightsError, match=r"small:resnet18 has no pretrained.*finetune.*--from-scratch.*random"
    ):
        extract(write_folder(tmp_path, ["a/0.png"]), backbone="small:resnet18")


def test_local_weights_with_and_without_a_classifier(tmp_path):
    source, name = find("small:resnet18")
    state = source.build(name, "random:5").module.state_dict()
    save_file(state, tmp_path / "whole.safetensors")
    whole = load_backbone("small:resnet18", weights=tmp_path / "whole.safetensors")
    assert "logits" in whole.layers()
    save_file(
        {key: value for key, value in state.items() if not key.startswith("fc.")},
        tmp_path / "trunk.safetensors",
    )
    headless = load_backbone("small:resnet18", weights=tmp_path / "trunk.safetensors")
    assert "logits" not in headless.layers()
    assert torch.equal(headless.module.conv1.weight, state["conv1.weight"])


def test_squashing_shows_the_whole_image():
    transform = load_backbone("small:resnet18", weights="random").transform
    assert (transform.resize_mode, transform.resize, transform.crop) == ("squash", (32, 32), (32, 32))
