"""Networks for images of 28 to 64 pixels, to be trained from scratch: ``small:NAME``.

timm's networks with the stems that are usual at this size: a 3 x 3 convolution of stride 1 in place of the 7 x 7 one of
stride 2, and no max-pooling behind it. In VGG, whose convolutions are small as they are, the average of the last map
takes the place of the two hidden layers. So they are in https://github.com/kuangliu/pytorch-cifar, where the figures that
are commonly quoted for CIFAR come from.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from frostline.features.backbones.network import Availability, Network
from frostline.features.backbones.readout import Readout, TimmReadout
from frostline.features.backbones.weights import load_file, random_seed, seeded
from frostline.features.errors import WeightsError
from frostline.features.spec import Transform

_CLASSES = 10
_SIDE = 32  # pixels, of CIFAR
_TRANSFORM = Transform(
    resize=(_SIDE, _SIDE),
    resize_mode="squash",  # nothing is cut off; square images keep their proportions
    crop=(_SIDE, _SIDE),
    interpolation="bicubic",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)


class SmallSource:
    """Untrained networks for small images."""

    prefix = "small"

    def names(self) -> Iterator[str]:
        """All of them."""
        yield from _NETWORKS

    def find(self, name: str) -> str | None:
        """The name itself."""
        return name if name in _NETWORKS else None

    def build(self, name: str, weights: str | Path | None) -> Network:
        """Build it.

        Raises:
            WeightsError: None are given, and there are no pretrained ones; or the file doesn't fit.
        """
        import timm

        seed = random_seed(weights)
        if weights is None:
            raise WeightsError(
                f"backbone small:{name} has no pretrained weights: train it with frostline finetune --backbone small:{name} "
                "--from-scratch, then name what that wrote with run:DIR; or give --weights FILE, or --weights random"
            )
        with seeded(seed or 0):
            module: nn.Module = _NETWORKS[name]()
        readout: Readout = TimmReadout(has_logits=True)
        if seed is None and not load_file(module, weights, classifier=readout.classifier(module)):
            readout = readout.without_classifier(module)
        return Network(
            module=module,
            transform=_TRANSFORM,
            readout=readout,
            weights=str(weights) if seed is None else f"random:{seed}",
            versions={"timm": timm.__version__},
        )

    def availability(self, name: str) -> Availability:  # noqa: ARG002  # true of each
        """There are no pretrained weights."""
        return "none"

    def version(self) -> str:
        """Of timm, which gives the parts."""
        import timm

        return f"timm {timm.__version__}"


SMALL = SmallSource()


def _resnet(block: str, layers: tuple[int, ...]) -> nn.Module:
    from timm.models import resnet

    module: nn.Module = resnet.ResNet(getattr(resnet, block), layers, num_classes=_CLASSES)
    module.conv1 = _convolution(64)
    module.maxpool = nn.Identity()
    return module


def _preactresnet(layers: tuple[int, ...]) -> nn.Module:
    from timm.layers.create_conv2d import create_conv2d
    from timm.layers.norm_act import BatchNormAct2d
    from timm.models.resnetv2 import ResNetV2

    module: nn.Module = ResNetV2(
        list(layers),
        channels=(64, 128, 256, 512),
        num_classes=_CLASSES,
        basic=True,
        bottle_ratio=1.0,
        conv_layer=create_conv2d,
        norm_layer=BatchNormAct2d,
    )
    module.stem = nn.Sequential(OrderedDict(conv=_convolution(64)))
    return module


def _densenet(growth: int, blocks: tuple[int, ...]) -> nn.Module:
    from timm.models.densenet import DenseNet

    module: nn.Module = DenseNet(growth, blocks, num_classes=_CLASSES)
    module.set_submodule("features.conv0", _convolution(2 * growth))
    module.set_submodule("features.pool0", nn.Identity())
    return module


def _vgg(layout: str) -> nn.Module:
    from timm.layers.classifier import ClassifierHead
    from timm.models.vgg import VGG, cfgs

    # The hidden layers that go at once are asked for with one unit: timm's own hold a hundred million numbers.
    module: nn.Module = VGG(cfgs[layout], num_classes=_CLASSES, norm_layer=nn.BatchNorm2d, mlp_ratio=1 / 4096)
    module.pre_logits = nn.Identity()
    width: Any = module.num_features
    module.head, module.head_hidden_size = ClassifierHead(width, _CLASSES), width
    for part in module.modules():
        if isinstance(part, nn.MaxPool2d):
            part.ceil_mode = True  # five of them leave nothing of 28 pixels otherwise
    return module


def _convolution(channels: int) -> nn.Conv2d:
    """The stem, with the weights that timm's networks start from."""
    convolution = nn.Conv2d(3, channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution


_NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    "resnet18": partial(_resnet, "BasicBlock", (2, 2, 2, 2)),
    "resnet34": partial(_resnet, "BasicBlock", (3, 4, 6, 3)),
    "resnet50": partial(_resnet, "Bottleneck", (3, 4, 6, 3)),
    "preactresnet18": partial(_preactresnet, (2, 2, 2, 2)),
    "densenet121": partial(_densenet, 32, (6, 12, 24, 16)),
    "vgg11_bn": partial(_vgg, "vgg11"),
    "vgg16_bn": partial(_vgg, "vgg16"),
}
