"""Which parameters weight decay falls on, beside timm's own grouping and lists by hand."""

import re

import pytest
import timm
import torch
from timm.layers import norm
from timm.optim import param_groups_weight_decay
from torch import nn
from torchvision import models

from frostline.features.backbones import Upper, load_backbone, trunk
from frostline.pipeline.options.learning.recipe import Recipe
from frostline.pipeline.tuning.trainer.decay import decaying
from frostline.pipeline.tuning.trainer.network import FrostLine, Network

FEW = {"embed_dim": 48, "depth": 1, "num_heads": 2}


def names_of(module, found):
    return {name for name, parameter in module.named_parameters() if id(parameter) in found}


def by_timm(module):
    """Names of what timm's training script lets decay."""
    excepted = module.no_weight_decay() if hasattr(module, "no_weight_decay") else ()
    groups = param_groups_weight_decay(module, 0.1, no_weight_decay_list=excepted)
    return names_of(module, {id(p) for group in groups if group["weight_decay"] for p in group["params"]})


@pytest.mark.parametrize(
    ("name", "options", "never"),
    [
        ("vit_tiny_patch16_224", FEW | {"init_values": 1e-5}, r"cls_token|pos_embed|\.gamma"),
        ("deit_tiny_distilled_patch16_224", FEW, r"cls_token|dist_token|pos_embed"),
        ("beit_base_patch16_224", FEW, r"gamma_1|relative_position_bias_table|cls_token"),
        ("vit_small_patch14_reg4_dinov2", FEW, r"reg_token|\.gamma"),
        (
            "swin_tiny_patch4_window7_224",
            {"embed_dim": 24, "depths": (1, 1), "num_heads": (1, 2)},
            "relative_position_bias_table",
        ),
        (
            "swinv2_tiny_window8_256",
            {"embed_dim": 24, "depths": (1, 1), "num_heads": (1, 2)},
            r"cpb_mlp|logit_scale",
        ),
        ("test_convnext", {}, r"\.gamma|norm"),
        ("test_efficientnet", {}, "bn"),
        ("test_maxvit", {}, r"relative_position_bias_table|rel_pos"),
        ("test_coatnet", {}, r"relative_position_bias_table|rel_pos"),
    ],
)
def test_decaying_parameters_match_timm(name, options, never):
    with torch.device("meta"):
        module = timm.create_model(name, **options)
    ours = names_of(module, decaying(module))
    assert ours == by_timm(module)
    excepted = {each for each, parameter in module.named_parameters() if re.search(never, each)}
    assert excepted
    assert not ours & excepted
    assert any(parameter.ndim > 1 for each, parameter in module.named_parameters() if each in ours)


@pytest.mark.parametrize(
    ("name", "never"),
    [
        ("resnet18", r"(^|\.)bn\d|downsample\.1"),
        ("vit_b_16", r"class_token|encoder\.pos_embedding|\.ln(_\d)?\."),
        ("swin_t", r"relative_position_bias_table|norm|features\.0\.2\."),
        ("convnext_tiny", r"layer_scale|block\.2\.|features\.0\.1\.|features\.[246]\.0\.|classifier\.0"),
        (
            "maxvit_t",
            r"relative_position_bias_table|_norm|conv_[ab]\.1\.|(mlp|attn)_layer\.0\.|stem\.0\.1|classifier\.2",
        ),
    ],
)
def test_only_weights_of_torchvision_networks_decay(name, never):
    """The names that torchvision gives its norms, scales, tokens and embeddings of positions, written down by hand."""
    with torch.device("meta"):
        module = models.get_model(name, weights=None)
    ours = names_of(module, decaying(module))
    expected = {each for each, _ in module.named_parameters() if not re.search(rf"{never}|bias$", each)}
    assert ours == expected


class Affine(nn.Module):
    """Like that of timm's ResMLP."""

    def __init__(self):
        super().__init__()
        self.alpha, self.beta = nn.Parameter(torch.ones(1, 1, 4)), nn.Parameter(torch.zeros(1, 1, 4))


class Positions(nn.Module):
    def __init__(self):
        super().__init__()
        self.mlp, self.scale = nn.Linear(4, 4), nn.Linear(4, 4)

    def no_weight_decay(self):
        return ["mlp.*"]


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.Linear(4, 2), {"weight"}),
        (nn.Linear(1, 1), {"weight"}),
        (nn.Conv2d(4, 4, 1, groups=4), {"weight"}),
        (nn.ConvTranspose2d(4, 4, 2), {"weight"}),
        (nn.MultiheadAttention(4, 2, add_bias_kv=True), {"in_proj_weight", "out_proj.weight"}),
        (nn.LSTM(4, 2), {"weight_ih_l0", "weight_hh_l0"}),
        (nn.Embedding(7, 4), set()),
        (nn.BatchNorm2d(4), set()),
        (nn.GroupNorm(2, 4), set()),
        (nn.InstanceNorm2d(4, affine=True), set()),
        (nn.LayerNorm((4, 3, 3)), set()),
        (nn.RMSNorm((4, 3)), set()),
        (norm.RmsNorm((4, 3)), set()),
        (norm.SimpleNormFp32((4, 3)), set()),
        (nn.PReLU(4), set()),
        (Affine(), set()),
        (nn.Sequential(Positions()), {"0.scale.weight"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_decay_by_kind_of_layer(module, expected):
    assert names_of(module, decaying(module)) == expected


@pytest.mark.parametrize("backbone", ["timm:test_vit", "timm:test_maxvit", "small:resnet18"])
@pytest.mark.parametrize("cut", [False, True], ids=["whole", "above a line"])
def test_optimizer_groups_follow_the_rule_above_a_frost_line(backbone, cut):
    net = load_backbone(backbone, weights="random")
    whole, stages = trunk(net), net.stages()
    expected = by_timm(whole)
    body = Upper(whole, stages, 0, net.transform.crop) if cut else whole
    network = Network(body, nn.Linear(net.layers()["embedding"].dim, 3), net.transform, 0.0)
    line = FrostLine(whole, stages, int(cut))
    groups = line.groups(network, Recipe(frost_line=stages[0].name if cut else "none"), from_scratch=False)
    learning = {name for name, _ in whole.named_parameters() if not (cut and stages[0].owns(name))}
    decays = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    rest = {id(p) for group in groups if not group["weight_decay"] for p in group["params"]}
    assert names_of(whole, decays) == expected & learning
    assert names_of(whole, rest) == learning - expected
    assert names_of(network.head, decays) == {"weight"}
    assert names_of(network.head, rest) == {"bias"}
