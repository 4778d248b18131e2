import copy
import dataclasses
import json
import re

import pytest
import torch
from torch import nn

from frostline.features.backbones import (
    Backbone,
    FeatureModule,
    Lower,
    Network,
    Upper,
    describe,
    find_stage,
    list_stages,
    load_backbone,
    trunk,
)
from frostline.features.backbones.readout import OutputReadout, TimmReadout
from frostline.features.errors import BackboneError, LayerError
from frostline.features.spec import Transform
from tests.features.networks import resized
from tests.helpers.runner import run

pytestmark = pytest.mark.usefixtures("cache_home")

# One small network of each family, and the stages that its papers and its code speak of.
FAMILIES = {
    "timm:test_resnet": "stem layer1 layer2 layer3 layer4",  # with a deep stem
    "timm:resnet10t": "stem layer1 layer2 layer3 layer4",
    "torchvision:resnet18": "stem layer1 layer2 layer3 layer4",
    "torchvision:densenet121": "stem features.denseblock1 features.transition1 features.denseblock2 features.transition2 "
    "features.denseblock3 features.transition3 features.denseblock4 top",
    "torchvision:alexnet": "features.0 features.3 features.6 features.8 features.10 top",
    "torchvision:squeezenet1_1": "stem features.3 features.4 features.6 features.7 features.9 features.10 features.11 "
    "features.12",
    "timm:test_efficientnet": "stem blocks.0 blocks.1 blocks.2 blocks.3 blocks.4 top",
    "timm:mobilenetv3_small_050": "stem blocks.0 blocks.1 blocks.2 blocks.3 blocks.4 blocks.5 top",
    "torchvision:shufflenet_v2_x0_5": "stem stage2 stage3 stage4 top",
    "timm:test_convnext": "stem stages.0 stages.1 stages.2 stages.3 top",
    "timm:test_vit": "stem blocks.0 blocks.1 blocks.2 blocks.3 blocks.4 blocks.5 top",
    "swin": "stem layers.0 layers.1 top",
    "torchvision:swin_t": "stem features.1 features.2 features.3 features.4 features.5 features.6 features.7 top",
    "timm:resnetv2_18": "stem stages.0 stages.1 stages.2 stages.3 top",
    "timm:regnetx_002": "stem s1 s2 s3 s4",
}


SIDES = {
    "timm:test_vit": 160,
    "torchvision:alexnet": 96,
    "swin": 64,
}  # 64 pixels where nothing else is needed


@pytest.fixture(scope="module", params=FAMILIES)
def backbone(request):
    if request.param == "swin":
        return small_swin()
    small = resized(load_backbone(request.param, weights="random"), SIDES.get(request.param, 64))
    return Backbone(request.param, small.network)  # by the name of the family


def small_swin():
    """The real architecture; timm has none that is small by name."""
    from timm.models.swin_transformer import SwinTransformer

    module = SwinTransformer(img_size=64, window_size=4, embed_dim=8, depths=(2, 2), num_heads=(1, 1))
    transform = Transform(64, "shortest", (64, 64), "bicubic", (0.5,) * 3, (0.5,) * 3)
    return Backbone(
        "swin", Network(module, transform, TimmReadout(has_logits=True), "random", channels_last=True)
    )


def images_of(backbone, count=2):
    return torch.randn(count, 3, *backbone.transform.crop)


def small(module, side=16):
    transform = Transform(side, "shortest", (side, side), "bilinear", (0.5,) * 3, (0.5,) * 3)
    return Backbone("plain", Network(module, transform, OutputReadout(), "test"))


def hashes(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def changed(before, module):
    return {name for name, tensor in module.state_dict().items() if not torch.equal(before[name], tensor)}


def test_stages_are_those_of_the_family_and_hold_every_parameter_once(backbone):
    stages, net = backbone.stages(), trunk(backbone)
    assert [stage.name for stage in stages] == FAMILIES[backbone.name].split()
    for name, _ in net.named_parameters():
        assert sum(stage.owns(name) for stage in stages) == 1, name
    assert all(stage.parameters for stage in stages)
    assert sum(stage.parameters for stage in stages) == sum(each.numel() for each in net.parameters())
    assert stages[-1].shape == (backbone.layers()["embedding"].dim,)


def test_lower_and_upper_part_equal_trunk(backbone):
    stages, net, images = backbone.stages(), trunk(backbone), images_of(backbone, 3)
    with torch.inference_mode():
        whole = net(images)
    for line in {0, len(stages) // 2, len(stages) - 2}:  # each line of each family would take minutes
        lower, upper = Lower(net, stages, line), Upper(net, stages, line, backbone.transform.crop)
        with torch.inference_mode():
            activations = lower(images)
            embedding = upper(activations.clone())
        assert tuple(activations.shape[1:]) == stages[line].shape
        torch.testing.assert_close(embedding, whole, rtol=1e-4, atol=1e-4 * float(whole.abs().max()))
        (layer,) = backbone.resolve_layers([stages[line].layer])
        assert (layer.name, layer.pool, layer.dim) == (stages[line].end, "none", activations[0].numel())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("torchvision:resnet101", "stem layer1 layer2 layer3 layer4"),  # layer3 is most of it
        ("timm:vovnet39a", "stem stages.0 stages.1 stages.2 stages.3"),  # the stem is built as a stage is
        ("timm:cait_xxs24_224", None),  # class token above the blocks
    ],
)
def test_unequal_stages_and_unusual_networks(name, expected):
    stages = list_stages(name)
    if expected:
        assert [stage.name for stage in stages] == expected.split()
    owned = [each for stage in stages for each in (*stage.modules, *stage.tensors)]
    assert len(owned) == len(set(owned))
    assert sum(stage.flops for stage in stages) / 1e9 == pytest.approx(describe(name).gflops, rel=0.01)


def test_the_trunk_gives_the_embedding_and_is_a_copy(backbone):
    net = trunk(backbone)
    pixels = torch.randint(0, 256, (2, *backbone.transform.crop, 3), dtype=torch.uint8)
    mean, std = torch.tensor(backbone.transform.mean), torch.tensor(backbone.transform.std)
    with torch.inference_mode():
        (expected,) = FeatureModule(backbone, backbone.resolve_layers(["embedding"]))(pixels)
        found = net(((pixels / 255 - mean) / std).permute(0, 3, 1, 2))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert not any(parameter.requires_grad for parameter in backbone.module.parameters())
    ours = {parameter.data_ptr() for parameter in backbone.module.parameters()}
    assert not ours & {parameter.data_ptr() for parameter in net.parameters()}


def test_training_the_upper_part_changes_it_alone_and_the_trunk_with_it(vit):
    stages, net = vit.stages(), trunk(vit)
    line, before = 2, hashes(net)
    lower, upper = Lower(net, stages, line), Upper(net, stages, line, vit.transform.crop)
    with torch.no_grad():
        activations = lower(images_of(vit))
    optimizer = torch.optim.SGD(upper.train().parameters(), lr=0.1)
    upper(activations).square().mean().backward()
    optimizer.step()
    different = changed(before, net)
    assert different == {
        name for name, _ in net.named_parameters() if any(stage.owns(name) for stage in stages[line + 1 :])
    }
    assert all(parameter.grad is None for parameter in lower.parameters())


def test_training_mode_reaches_only_the_upper_part(resnet):
    stages, net = resnet.stages(), trunk(resnet)
    upper = Upper(net, stages, 2, resnet.transform.crop)
    lower, before = Lower(net, stages, 2), hashes(net)
    upper.train()
    assert net.layer3.training
    assert not any(part.training for part in (net.bn1, net.layer1, net.layer2))
    upper(lower(images_of(resnet)))
    drifted = changed(before, net)
    assert drifted
    assert all(name.startswith(("layer3.", "layer4.")) for name in drifted)  # running statistics
    upper.eval()
    assert not net.layer3.training


def test_a_probe_leaves_the_modes_of_the_trunk(resnet):
    net = trunk(resnet).train()
    net.layer1.eval()
    before, modes = hashes(net), {name: part.training for name, part in net.named_modules()}
    Upper(net, resnet.stages(), 1, resnet.transform.crop)
    assert {name: part.training for name, part in net.named_modules()} == modes
    assert not changed(before, net)


def test_upper_part_excludes_parameters_and_state_of_lower_part(vit):
    stages, net = vit.stages(), trunk(vit)
    assert set(stages[0].tensors) == {"cls_token", "pos_embed"}
    upper = Upper(net, stages, 0, vit.transform.crop)
    names = {name.removeprefix("network.") for name, _ in upper.named_parameters()}
    assert names == {name for name, _ in net.named_parameters() if not stages[0].owns(name)}
    assert {name.removeprefix("network.") for name in upper.state_dict()} == names


def test_copy_of_upper_part_is_independent(resnet):
    # as an exponential moving average is made
    stages, net = resnet.stages(), trunk(resnet)
    upper = Upper(net, stages, 1, resnet.transform.crop)
    twin = copy.deepcopy(upper)
    activations = torch.randn(2, *stages[1].shape)
    expected = upper(activations.clone())
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    torch.testing.assert_close(twin(activations), expected)


def test_other_batch_sizes_than_the_probes(resnet):
    stages, net = resnet.stages(), trunk(resnet)
    upper = Upper(net, stages, 1, resnet.transform.crop)
    batch = torch.randn(5, *stages[1].shape)
    with torch.inference_mode():
        single = torch.cat([upper(each[None].clone()) for each in batch])
        torch.testing.assert_close(upper(batch.clone()), single, rtol=1e-4, atol=1e-5)


def test_nothing_above_the_line_is_computed(resnet):
    net = trunk(resnet)
    net.layer3.register_forward_pre_hook(lambda *_: pytest.fail("layer3 ran"))
    assert Lower(net, resnet.stages(), 2)(images_of(resnet)).shape[1:] == resnet.stages()[2].shape


class Skipping(nn.Module):
    """As a U-Net: the last part reads what the first one gave."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.third, self.fourth = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, images):
        early = self.first(images)
        return self.fourth(self.third(self.second(early)) + early).mean((2, 3))


def test_a_connection_across_the_line_is_found_and_other_lines_still_work():
    backbone = small(Skipping())
    stages, net = backbone.stages(), trunk(backbone)
    assert [stage.name for stage in stages] == ["first", "second", "third", "fourth"]
    with pytest.raises(BackboneError, match=r"'second'.*skips the line.*elsewhere"):
        Upper(net, stages, 1, (16, 16))
    Upper(net, stages, 0, (16, 16))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared, self.last = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 4, 1)

    def forward(self, images):
        return self.last(self.shared(self.shared(images))).mean((2, 3))


def test_module_that_runs_twice_does_not_end_a_stage():
    assert [stage.name for stage in small(Twice()).stages()] == ["last"]


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.split, self.join = nn.ModuleList([nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)]), nn.Linear(4, 2)
        self.scale = nn.Parameter(torch.ones(2))

    def forward(self, images):
        for part in self.split:
            images = part(images)
        return self.join(images.mean((2, 3))) * self.scale


def test_module_list_is_split_and_late_tensor_belongs_to_last_stage():
    stages = small(Pair()).stages()
    assert [stage.name for stage in stages] == ["split.0", "split.1", "top"]
    assert stages[-1].tensors == ("scale",)


def test_flops_add_up_to_the_networks(resnet):
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        trunk(resnet)(images_of(resnet, 1))
    assert sum(stage.flops for stage in resnet.stages()) == counter.get_total_flops() // 2


def test_unknown_stage_lists_similar_stages(resnet):
    assert find_stage(resnet.stages(), "layer3") == 3
    with pytest.raises(LayerError, match=r"'layer9'.*did you mean layer.*All: stem, layer1"):
        find_stage(resnet.stages(), "layer9")


def test_line_after_last_stage_is_refused(resnet):
    stages = resnet.stages()
    for side in (Lower, lambda *args: Upper(*args, resnet.transform.crop)):
        with pytest.raises(BackboneError, match=r"nothing to train above it; expected 0 to 3"):
            side(trunk(resnet), stages, len(stages) - 1)


def test_another_size_than_the_transforms_is_refused(resnet):
    with pytest.raises(BackboneError, match=re.escape("for images of 64 x 64 pixels; expected (32, 40, 40)")):
        Upper(trunk(resnet), resnet.stages(), 1, (64, 64))


def test_the_command_lists_stages_as_a_table_and_as_json(resnet):
    table = run("backbones", "timm:test_resnet", "--stages")
    assert re.search(r"stem +32x40x40 +100 KiB +0\.007 M +\d+%", table.output)
    document = json.loads(run("backbones", "test_resnet", "--stages", "--json").output)
    assert [each["name"] for each in document] == [stage.name for stage in resnet.stages()]
    assert document == json.loads(json.dumps([dataclasses.asdict(stage) for stage in resnet.stages()]))
    assert "needs the name" in run("backbones", "--stages", code=2).stderr


def test_upper_part_saves_and_loads_its_state(resnet):
    whole = trunk(resnet)
    upper = Upper(whole, resnet.stages(), 1, resnet.transform.crop)
    state = {name: tensor + 1 for name, tensor in upper.state_dict().items()}
    upper.load_state_dict(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in upper.state_dict().items())
    assert "Upper" in repr(upper)
