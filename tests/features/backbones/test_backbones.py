import pytest
import timm
import torch

from frostline.features.backbones import FeatureModule, load_backbone
from frostline.features.errors import BackboneError


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("timm:resnet18", "timm:resnet18.a1_in1k"),
        ("resnet18", "timm:resnet18.a1_in1k"),
        ("timm:resnet18.tv_in1k", "timm:resnet18.tv_in1k"),
        ("torchvision:resnet18", "torchvision:resnet18.IMAGENET1K_V1"),
        ("resnet18.IMAGENET1K_V1", "torchvision:resnet18.IMAGENET1K_V1"),
        ("torchvision:resnet50", "torchvision:resnet50.IMAGENET1K_V2"),
        ("efficientnet_lite0", "embedded:efficientnet_lite0"),
        ("embedded:efficientnet_lite0", "embedded:efficientnet_lite0"),
        ("timm:efficientnet_lite0", "timm:efficientnet_lite0.ra_in1k"),
    ],
)
def test_names_resolve_to_one_full_name(name, full):
    from frostline.features.backbones.providers.registry import find

    source, found = find(name)
    assert f"{source.prefix}:{found}" == full
    assert find(full)[1] == found


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("resnet118", "did you mean timm:resnet18"),
        ("timm:resnet18.a9_in1k", r"not known to timm; did you mean timm:resnet18\.\w+_in1k"),
        ("torchvision:mobilenet_v9", "torchvision:mobilenet_v"),
        (
            "keras:resnet50",
            "no backbone source 'keras'; expected one of embedded, timm, torchvision, open_clip, small, plugin",
        ),
        ("tim:resnet50", r"no backbone source 'tim' \(did you mean 'timm'\?\)"),
        ("zzzzzzzzzz", "frostline backbones PATTERN"),
        ("", "not known"),
    ],
)
def test_unknown_names_list_similar_names(name, match):
    with pytest.raises(BackboneError, match=match):
        load_backbone(name)


def test_frozen(resnet):
    assert not any(part.training for part in resnet.module.modules())
    assert not any(parameter.requires_grad for parameter in resnet.module.parameters())
    module = FeatureModule(resnet, resnet.resolve_layers(["embedding"]))
    with pytest.raises(RuntimeError, match="frozen"):
        module.train()
    assert not any(part.training for part in module.eval().modules())


def test_the_fingerprint_covers_every_value_and_no_layout(resnet):
    before = resnet.fingerprint()
    assert before == resnet.weights_sha256
    resnet.module.to(memory_format=torch.channels_last)
    assert resnet.fingerprint() == before
    for tensor in (resnet.module.fc.bias, resnet.module.layer1[0].bn1.running_mean):
        kept = tensor.data.clone()
        tensor.data[-1] += 1e-6
        assert resnet.fingerprint() != before
        tensor.data.copy_(kept)
    assert resnet.fingerprint() == before


def test_versions_name_what_the_numbers_depend_on(resnet):
    assert resnet.versions == {"torch": torch.__version__, "timm": timm.__version__}
