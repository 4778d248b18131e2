"""Batch norms are folded into convolutions where that keeps the function."""

import pytest
import torch
from torch import nn

from frostline.features.backbones import FeatureModule, load_backbone
from frostline.features.backbones.forward.folding import fold_batch_norms
from frostline.features.backbones.weights import fingerprint
from frostline.testing.vectors import photos


@pytest.mark.parametrize(
    "name", ["timm:test_resnet", "timm:test_efficientnet", "torchvision:shufflenet_v2_x0_5"]
)
def test_folding_removes_batch_norms_and_keeps_the_function(name):
    backbone = load_backbone(name, weights="random:3")
    for part in backbone.module.modules():  # as trained, not as initialised
        if isinstance(part, nn.BatchNorm2d):
            for tensor, low in ((part.running_mean, -0.5), (part.running_var, 0.5), (part.weight, 0.5)):
                tensor.data.uniform_(low, low + 1)
            part.bias.data.uniform_(-0.5, 0.5)
    layers = backbone.resolve_layers(
        ["embedding", "logits", next(x for x, i in backbone.layers().items() if i.kind == "map")]
    )
    pixels = torch.from_numpy(photos(backbone, 2))
    plain, folded = FeatureModule(backbone, layers), FeatureModule(backbone, layers, fold=True)
    left = [sum(isinstance(part, nn.BatchNorm2d) for part in module.modules()) for module in (plain, folded)]
    assert left[1] < left[0] / 4
    with torch.inference_mode():
        for ours, theirs in zip(folded(pixels), plain(pixels), strict=True):
            assert ((ours - theirs).norm(dim=1) < 1e-5 * theirs.norm(dim=1)).all()


def test_convolution_with_requested_output_is_not_folded(resnet):
    names = ["layer1.0.conv1", "layer1.0.bn1", "layer2.0.conv1:max", "embedding"]
    layers = resnet.resolve_layers(names)
    pixels = torch.from_numpy(photos(resnet, 2))
    with torch.inference_mode():
        for ours, theirs in zip(
            FeatureModule(resnet, layers, fold=True)(pixels),
            FeatureModule(resnet, layers)(pixels),
            strict=True,
        ):
            assert ((ours - theirs).norm(dim=1) < 1e-5 * theirs.norm(dim=1)).all()


class SharedConvolution(nn.Module):
    """Its convolution's output is read by the batch normalisation and by the sum: folding would be wrong."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.bn.running_mean.fill_(0.5)
        self.bn.running_var.fill_(3.0)

    def forward(self, images):
        convolved = self.conv(images)
        return (convolved + self.bn(convolved)).mean((2, 3))


def test_folding_that_would_change_the_output_is_undone():
    network = SharedConvolution().eval().requires_grad_(requires_grad=False)
    images = torch.randn(2, 3, 16, 16)
    with torch.inference_mode():
        before, state = network(images), fingerprint(network)
        assert fold_batch_norms(network, (16, 16), frozenset()) == 0
        assert fingerprint(network) == state
        torch.testing.assert_close(network(images), before, rtol=0, atol=0)
