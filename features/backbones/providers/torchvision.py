"""Backbones of torchvision (classification networks): ``torchvision:NAME[.WEIGHTS]``."""

import dataclasses
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from frostline.features.backbones.network import Availability, ClassTokens, Network
from frostline.features.backbones.providers.published import Published
from frostline.features.backbones.readout import ClassifierReadout, Readout
from frostline.features.backbones.weights import (
    download_error,
    load_file,
    seed_of_random_weights,
    seeded,
)
from frostline.features.spec import Transform

# Auxiliary classifiers are used only in training. The pretrained networks of these two names renormalise the input.
_AUXILIARY = ("googlenet", "inception_v3")
_AUXILIARY_KEYS = ("aux1.", "aux2.", "AuxLogits.")
# Key names in torchvision's weight files of DenseNet and ViT, which date from the first versions of these networks.
_EARLIER_NAMES = {
    re.compile(r"(\.denselayer\d+\.(?:norm|conv))\.([12]\.)"): r"\1\2",
    re.compile(r"(\.mlp\.)linear_1\."): r"\g<1>0.",
    re.compile(r"(\.mlp\.)linear_2\."): r"\g<1>3.",
}


class TorchvisionSource:
    """Source of torchvision's classification models. The transform belongs to the named or default weights."""

    prefix = "torchvision"

    def names(self) -> Iterator[str]:
        """Iterate over every set of weights of every network."""
        from torchvision import models

        for name in models.list_models(module=models):
            yield from (f"{name}.{weights.name}" for weights in models.get_model_weights(name))

    def find(self, name: str) -> str | None:
        """Return the full name with the weights: ``resnet50`` becomes ``resnet50.IMAGENET1K_V2``."""
        from torchvision import models

        network, _, tag = name.partition(".")
        if network not in models.list_models(module=models):
            return None
        known = models.get_model_weights(network).__members__  # with the alias DEFAULT
        return f"{network}.{known[tag or 'DEFAULT'].name}" if (tag or "DEFAULT") in known else None

    def build(self, name: str, weights: str | Path | None) -> Network:
        """Build the network.

        Raises:
            WeightsError: The weights are not available or don't fit.
        """
        seed = seed_of_random_weights(weights)
        if weights is None:
            return network_of(name, _pretrained(name), f"pretrained, {_entry(name).url}")
        module = create(name, seed=seed or 0, initialise=seed is not None)
        if seed is not None:
            return network_of(name, module, f"random:{seed}")
        readout: Readout = readout_of(module)
        loaded = load_file(
            module,
            weights,
            classifier=readout.classifier(module),
            convert=partial(_current, name),
        )
        if not loaded.classifier:
            readout = readout.without_classifier(module)
        return dataclasses.replace(network_of(name, module, str(weights), readout), note=loaded.note)

    def published(self, name: str) -> Sequence[Published]:
        """Return all sets of published weights of the network with a full name."""
        from torchvision import models

        network = name.partition(".")[0]
        return [
            Published(f"{network}.{each.name}", each.url, transform_of(f"{network}.{each.name}"))
            for each in models.get_model_weights(network)
        ]

    def availability(self, name: str) -> Availability:
        """Return whether torch's cache holds the weights."""
        import torch

        file = Path(torch.hub.get_dir(), "checkpoints", Path(_entry(name).url).name)
        return "local" if file.exists() else "download"

    def version(self) -> str:
        """Return the version of torchvision."""
        import torchvision

        return f"torchvision {torchvision.__version__}"


TORCHVISION = TorchvisionSource()


def _entry(name: str) -> Any:
    from torchvision import models

    network, _, tag = name.partition(".")
    return models.get_model_weights(network)[tag]


def _current(name: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that the network uses, under their current names and for its image size."""
    unused = _AUXILIARY_KEYS if name.startswith(_AUXILIARY) else ()
    current = {_renamed(key): value for key, value in state.items() if not key.startswith(unused)}
    return _resized(name, current) if name.startswith("vit_") else current


def _resized(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Interpolate the position embeddings of a vision transformer of another image size, as torchvision does."""
    from torchvision.models.vision_transformer import interpolate_embeddings

    patch = state["conv_proj.weight"].shape[-1]
    resized = interpolate_embeddings(_entry(name).meta["min_size"][0], patch, OrderedDict(state))
    return dict(resized)


def _renamed(key: str) -> str:
    for earlier, name in _EARLIER_NAMES.items():
        key = earlier.sub(name, key)
    return key


def _pretrained(name: str) -> nn.Module:
    from torchvision import models

    entry = _entry(name)
    options = {"aux_logits": False} if name.startswith(_AUXILIARY) else {}
    try:
        with seeded(0):
            module: nn.Module = models.get_model(
                name.partition(".")[0], weights=entry, progress=False, **options
            )
    except (OSError, RuntimeError) as error:
        remedy = "Download that file on a machine with network access and pass it as --weights FILE"
        raise download_error(f"torchvision:{name}", entry.url, error, remedy) from error
    return module


def create(name: str, *, seed: int = 0, initialise: bool = False) -> nn.Module:
    """Build an untrained network by its full name, without changing the caller's random state."""
    from torchvision import models

    options: dict[str, Any] = {}
    if name.startswith(_AUXILIARY):
        options = {"aux_logits": False, "transform_input": True, "init_weights": initialise}
    elif name.startswith("vit_"):
        options = {"image_size": _entry(name).meta["min_size"][0]}
    with seeded(seed):
        module: nn.Module = models.get_model(name.partition(".")[0], weights=None, **options)
    return module


def network_of(name: str, module: nn.Module, weights: str, readout: Readout | None = None) -> Network:
    """Return the network of a torchvision module, with the transform of the weights in the full name."""
    import torchvision

    return Network(
        module=module,
        transform=transform_of(name),
        readout=readout or readout_of(module),
        weights=weights,
        tokens=_tokens(module),
        versions={"torchvision": torchvision.__version__},
    )


def transform_of(name: str) -> Transform:
    """Return the transform of the weights in a full name."""
    from frostline.features.images.decoding import transform_from_torchvision

    return transform_from_torchvision(_entry(name).transforms())


def readout_of(module: nn.Module) -> ClassifierReadout:
    """Return the readout of the last linear layer's input, or of the last convolution's in SqueezeNet."""
    linear = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    convolution = [name for name, part in module.named_modules() if isinstance(part, nn.Conv2d)]
    return ClassifierReadout((linear or convolution)[-1])


def _tokens(module: nn.Module) -> ClassTokens | None:
    network: Any = module
    if not hasattr(network, "class_token"):
        return None
    return ClassTokens(prefix=1, has_class=True, length=network.seq_length)
