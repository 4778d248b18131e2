import pytest
import torch
from torch import nn

from frostline.features.backbones import Backbone, FeatureModule, Network, load_backbone
from frostline.features.backbones.providers.registry import find
from frostline.features.backbones.readout import ClassifierReadout, TimmReadout
from frostline.features.errors import LayerError
from frostline.features.spec import Transform
from tests.features.networks import features


def images(backbone, count=2):
    height, width = backbone.transform.crop
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8)


def normalised(backbone, pixels):
    mean, std = torch.tensor(backbone.transform.mean), torch.tensor(backbone.transform.std)
    return ((pixels / 255 - mean) / std).permute(0, 3, 1, 2)


def outputs_of(module, names, batch):
    """Each named module's own output, by plain hooks on the plain network."""
    found = {}
    handles = [
        module.get_submodule(name).register_forward_hook(
            lambda _part, _inputs, output, name=name: found.update({name: output.clone()})
        )
        for name in names
    ]
    with torch.inference_mode():
        module(batch)
    for handle in handles:
        handle.remove()
    return found


def test_embedding_and_logits_come_first_and_every_stage_is_a_layer(resnet):
    layers = resnet.layers()
    assert list(layers)[:2] == ["embedding", "logits"]
    assert (layers["embedding"].kind, layers["embedding"].dim) == ("vector", resnet.module.num_features)
    assert layers["logits"].shape == (resnet.module.num_classes,)
    for stage in ("layer1", "layer2", "layer3", "layer4"):
        assert layers[stage].kind == "map"
        assert layers[stage].pools == ("avg", "max", "gem", "none")


def test_default_pools(resnet, vit):
    def keys(backbone, *names):
        return [layer.key for layer in backbone.resolve_layers(names)]

    assert keys(resnet, "embedding", "layer4", "layer4:gem") == ["embedding", "layer4:avg", "layer4:gem"]
    assert keys(vit, "embedding", "blocks.3", "patch_embed") == [
        "embedding",
        "blocks.3:cls",
        "patch_embed:avg",
    ]


def test_dims_are_those_of_the_vectors_that_come_out(resnet, vit):
    for backbone, names in (
        (resnet, ["embedding", "logits", "layer1", "layer2:max", "layer3:gem", "layer4:none", "conv1.0"]),
        (vit, ["embedding", "logits", "blocks.0", "blocks.1:avg", "blocks.2:max", "norm:gem", "norm:none"]),
    ):
        layers = backbone.resolve_layers(names)
        found = features(backbone, names, images(backbone, 3))
        assert [tuple(vector.shape) for vector in found] == [(3, layer.dim) for layer in layers]
        assert all(vector.dtype == torch.float32 for vector in found)


def test_embedding_and_logits_are_the_networks_own(resnet, vit):
    for backbone in (resnet, vit):
        pixels = images(backbone)
        embedding, logits = features(backbone, ["embedding", "logits"], pixels)
        with torch.inference_mode():
            batch = normalised(backbone, pixels)
            trunk = backbone.module.forward_features(batch)
            torch.testing.assert_close(embedding, backbone.module.forward_head(trunk, pre_logits=True))
            torch.testing.assert_close(logits, backbone.module(batch))


def test_a_class_token_network_pools_only_what_each_layer_holds(vit):
    pixels = images(vit)
    own = outputs_of(vit.module, ["blocks.1", "patch_embed"], normalised(vit, pixels))
    cls, avg, patches = features(vit, ["blocks.1:cls", "blocks.1:avg", "patch_embed:avg"], pixels)
    torch.testing.assert_close(cls, own["blocks.1"][:, 0])
    torch.testing.assert_close(avg, own["blocks.1"][:, vit.module.num_prefix_tokens :].mean(1))
    torch.testing.assert_close(patches, own["patch_embed"].mean((1, 2)))  # a map still: (h, w, c)
    with pytest.raises(LayerError, match="'cls' isn't supported"):
        vit.resolve_layers(["patch_embed:cls"])  # the class token isn't there yet


def small_swin(library):
    """The real architectures, small; timm's last map has as many channels as rows, so that no shape tells."""
    if library == "timm":
        from timm.models.swin_transformer import SwinTransformer

        module = SwinTransformer(img_size=64, window_size=4, embed_dim=4, depths=(1, 1), num_heads=(1, 1))
        readout = TimmReadout(has_logits=True)
    else:
        from torchvision.models import SwinTransformer

        module = SwinTransformer([4, 4], embed_dim=6, depths=[1, 1], num_heads=[1, 1], window_size=[4, 4])
        readout = ClassifierReadout("head")
    transform = Transform(64, "shortest", (64, 64), "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return Backbone(library, Network(module, transform, readout, "random", channels_last=library == "timm"))


def test_channels_are_found_in_either_layout(resnet):
    for backbone, layers in (
        (small_swin("timm"), {"layers.0": True, "layers.1": True, "patch_embed.proj": False}),
        (
            small_swin("torchvision"),
            {"features.1": True, "features.3": True, "permute": False, "features.0.0": False},
        ),
        (load_backbone("timm:test_mambaout", weights="random"), {"stages.0": True, "stages.3": True}),
        (
            load_backbone("timm:test_convnext", weights="random"),
            {"stages.3": False, "stages.0.blocks.0.mlp.fc1": True},
        ),
        (resnet, {"layer4": False}),
    ):
        _check_layout(backbone, layers)


def _check_layout(backbone, layers):
    pixels = images(backbone)
    own = outputs_of(backbone.module, layers, normalised(backbone, pixels))
    for layer, vector in zip(layers, features(backbone, [f"{x}:avg" for x in layers], pixels), strict=True):
        last = layers[layer]
        assert backbone.layers()[layer].channels_last is last
        torch.testing.assert_close(vector, own[layer].mean((1, 2) if last else (2, 3)), rtol=1e-4, atol=1e-5)


DIMS = {
    "alexnet": 4096,
    "convnext_tiny": 768,
    "densenet121": 1024,
    "efficientnet_b0": 1280,
    "googlenet": 1024,
    "inception_v3": 2048,
    "maxvit_t": 512,
    "mnasnet0_5": 1280,
    "mobilenet_v2": 1280,
    "mobilenet_v3_small": 1024,
    "resnet18": 512,
    "shufflenet_v2_x0_5": 1024,
    "squeezenet1_1": 512,
    "swin_t": 768,
    "swin_v2_t": 768,
    "vgg11": 4096,
    "vit_b_16": 768,
}


@pytest.mark.parametrize("name", DIMS)
def test_every_torchvision_family_has_its_embedding_and_its_scores(name):
    from frostline.features.backbones.layers import discover

    source, full = find(f"torchvision:{name}")
    with torch.device("meta"):
        network = source.build(full, "random")
    network.module.eval()
    layers = discover(network)
    assert layers["embedding"].dim == DIMS[name]
    assert layers["logits"].dim == 1000


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "shufflenet_v2_x0_5"])
def test_a_torchvision_classifier_turns_the_embedding_into_the_logits(name):
    backbone = load_backbone(f"torchvision:{name}", weights="random")
    embedding, logits = features(backbone, ["embedding", "logits"], images(backbone))
    (classifier,) = backbone.network.readout.classifier(backbone.module)
    torch.testing.assert_close(backbone.module.get_submodule(classifier)(embedding), logits)
    only = features(backbone, ["embedding"], images(backbone))
    assert len(only) == 1


def test_squeezenets_map_is_averaged():
    backbone = load_backbone("torchvision:squeezenet1_1", weights="random")
    pixels = images(backbone)
    own = outputs_of(backbone.module, ["features"], normalised(backbone, pixels))
    (embedding,) = features(backbone, ["embedding"], pixels)
    torch.testing.assert_close(embedding, own["features"].mean((2, 3)))


def test_a_layer_is_read_before_the_next_one_overwrites_it():
    backbone = load_backbone("torchvision:resnet18", weights="random")
    pixels = images(backbone)
    (vector,) = features(backbone, ["bn1:none"], pixels)
    with torch.inference_mode():
        own = backbone.module.bn1(backbone.module.conv1(normalised(backbone, pixels)))
    assert (own < 0).any()  # the ReLU behind it works in place, and would have cut these off
    torch.testing.assert_close(vector, own.flatten(1), rtol=1e-4, atol=1e-5)


def test_module_that_runs_twice_is_not_a_layer():
    backbone = load_backbone("torchvision:resnet18", weights="random")
    assert isinstance(backbone.module.layer1[0].relu, nn.ReLU)
    assert "layer1.0.relu" not in backbone.layers()
    assert "layer1.0.bn1" in backbone.layers()


@pytest.mark.parametrize(
    ("names", "reached"),
    [(["layer1"], {"layer1"}), (["layer2", "layer1:max"], {"layer1", "layer2"}), (["embedding"], {"layer4"})],
)
def test_forward_pass_stops_after_last_needed_layer(resnet, names, reached):
    module = FeatureModule(resnet, resnet.resolve_layers(names))
    ran = set()
    for name in ("layer1", "layer2", "layer3", "layer4", "fc"):
        module.network.get_submodule(name).register_forward_pre_hook(
            lambda _part, _inputs, name=name: ran.add(name)
        )
    for _ in range(2):
        ran.clear()
        with torch.inference_mode():
            module(images(resnet))
        assert reached <= ran
        assert not ran & ({"layer3", "layer4", "fc"} if reached != {"layer4"} else {"fc"})


def test_a_compiler_sees_the_whole_module_without_the_stop(resnet):
    module = FeatureModule(resnet, resnet.resolve_layers(["embedding", "layer2"]))
    pixels = images(resnet)
    with torch.inference_mode():
        exported = torch.export.export(module, (pixels,)).module()
        for ours, theirs in zip(module(pixels), exported(pixels), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_unknown_layer_lists_similar_layers_then_stages(resnet):
    with pytest.raises(LayerError, match=r"'layer44'.* expected layer4.*embedding, logits") as caught:
        resnet.resolve_layers(["layer44"])
    assert "more" not in str(caught.value).split("expected")[0]
    assert str(caught.value).count(",") <= 20
    assert "modules inside these" in str(caught.value)


@pytest.mark.parametrize("names", [["embedding:avg"], ["logits:cls"], ["layer4:cls"], ["layer4:mean"]])
def test_unsupported_pool_lists_supported_ones(resnet, names):
    expected = "none" if ":" in names[0] and not names[0].startswith("layer") else "avg, max, gem, none"
    with pytest.raises(LayerError, match=f"expected {expected}$"):
        resnet.resolve_layers(names)


def test_no_layers_and_repeated_layers(resnet):
    with pytest.raises(LayerError, match="no layers"):
        resnet.resolve_layers([])
    assert [layer.key for layer in resnet.resolve_layers(["layer4", "layer4:avg", "embedding"])] == [
        "layer4:avg",
        "embedding",
    ]


def test_discovery_removes_its_hooks(resnet):
    resnet.layers()
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in resnet.module.modules())
    FeatureModule(resnet, resnet.resolve_layers(["layer1", "embedding"]))
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in resnet.module.modules())


class Gate(nn.Module):
    """Chooses by the values of its input, which a pass of shapes alone doesn't have."""

    def __init__(self):
        super().__init__()
        self.dark, self.bright = nn.Linear(3, 4), nn.Linear(3, 4)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        vector = x.mean((2, 3))
        return self.fc(self.bright(vector) if x.max().item() > 0.5 else self.dark(vector))


def test_network_that_needs_values_runs_on_real_ones():
    transform = Transform(8, "shortest", (8, 8), "bilinear", (0.5,) * 3, (0.5,) * 3)
    network = Network(Gate(), transform, ClassifierReadout("fc"), "none")
    assert [*Backbone("test:gate", network).layers()] == ["embedding", "logits", "dark", "fc"]


def test_discovery_computes_nothing_and_leaves_the_weights_alone(resnet):
    before = resnet.fingerprint()
    seen = []
    handle = resnet.module.conv1.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs))
    Backbone("test:same", resnet.network).layers()
    handle.remove()
    assert all(pixels.is_meta for pixels in seen)
    assert seen
    assert resnet.fingerprint() == before
