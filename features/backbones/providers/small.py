"""Networks for images of 28 to 64 pixels, to be trained from scratch: ``small:NAME``.

These are timm's networks with the usual stems for this size: a 3 x 3 convolution of stride 1 replaces the 7 x 7
one of stride 2, without max-pooling after it. In VGG, whose convolutions are already small, the average of the
last map replaces the two hidden layers. https://github.com/kuangliu/pytorch-cifar, the origin of the commonly
quoted CIFAR results, uses the same designs.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from frostline.features.backbones.network import Availability, Network
from frostline.features.backbones.readout import Readout, TimmReadout
from frostline.features.backbones.weights import load_file, seed_of_random_weights, seeded
from frostline.features.errors import WeightsError
from frostline.features.spec import Transform

_CLASSES = 10
_SIDE = 32  # pixels, of CIFAR
_TRANSFORM = Transform(
    resize=(_SIDE, _SIDE),
    resize_mode="squash",  # no cropping; square images keep their proportions
    crop=(_SIDE, _SIDE),
    interpolation="bicubic",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)


class SmallSource:
    """Source of untrained networks for small images."""

    prefix = "small"

    def names(self) -> Iterator[str]:
        """Iterate over the names of all networks."""
        yield from _NETWORKS

    def find(self, name: str) -> str | None:
        """Return the name itself, or None if it is unknown."""
        return name if name in _NETWORKS else None

    def build(self, name: str, weights: str | Path | None) -> Network:
        """Build the network.

        Raises:
            WeightsError: No weights are given, although none are pretrained, or the file doesn't fit.
        """
        import timm

        seed = seed_of_random_weights(weights)
        if weights is None:
            raise WeightsError(
                f"backbone small:{name} has no pretrained weights: train it with frostline finetune --backbone small:{name} "
                "--from-scratch and use its output as run:DIR, or pass --weights FILE or --weights random"
            )
        with seeded(seed or 0):
            module: nn.Module = _NETWORKS[name]()
        readout: Readout = TimmReadout(has_logits=True)
        loaded = (
            None if seed is not None else load_file(module, weights, classifier=readout.classifier(module))
        )
        if loaded and not loaded.classifier:
            readout = readout.without_classifier(module)
        return Network(
            module=module,
            transform=_TRANSFORM,
            readout=readout,
            weights=str(weights) if seed is None else f"random:{seed}",
            versions={"timm": timm.__version__},
            note=loaded.note if loaded else "",
        )

    def availability(self, name: str) -> Availability:  # noqa: ARG002  # the same for every network
        """Return ``none``: there are no pretrained weights."""
        return "none"

    def version(self) -> str:
        """Return the version of timm, which provides the modules."""
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

    # The hidden layers are replaced below, so they are built with one unit: timm's own have 10^8 parameters.
    module: nn.Module = VGG(cfgs[layout], num_classes=_CLASSES, norm_layer=nn.BatchNorm2d, mlp_ratio=1 / 4096)
    module.pre_logits = nn.Identity()
    width: Any = module.num_features
    module.head, module.head_hidden_size = ClassifierHead(width, _CLASSES), width
    for part in module.modules():
        if isinstance(part, nn.MaxPool2d):
            part.ceil_mode = True  # otherwise five poolings reduce 28 pixels to none
    return module


def _convolution(channels: int) -> nn.Conv2d:
    """Return the stem with timm's weight initialisation."""
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
