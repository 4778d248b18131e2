"""Backbones of timm: ``timm:ARCHITECTURE[.TAG]``."""

import contextlib
import dataclasses
import io
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from frostline.features.backbones.network import Availability, ClassTokens, Network
from frostline.features.backbones.providers.published import Published
from frostline.features.backbones.readout import TimmReadout
from frostline.features.backbones.weights import download_error, load_file, seed_of_random_weights, seeded
from frostline.features.errors import BackboneError, WeightsError

_TRANSFORM = ("input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std")
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


class TimmSource:
    """Source of timm's models. Weights come from the Hugging Face hub or the location in timm's configuration."""

    prefix = "timm"

    def names(self) -> Iterator[str]:
        """Iterate over every pretrained tag of every architecture, then the architectures without one."""
        import timm

        tagged = timm.list_models(pretrained=True)
        yield from tagged
        with_weights = {name.partition(".")[0] for name in tagged}
        yield from (name for name in timm.list_models() if name not in with_weights)

    def find(self, name: str) -> str | None:
        """Return the full name with the tag: ``resnet18`` becomes ``resnet18.a1_in1k``."""
        import timm
        from timm.models import get_deprecated_models

        name = get_deprecated_models().get(name) or name
        architecture, _, tag = name.partition(".")
        if not timm.is_model(architecture):
            return None
        try:
            config = timm.get_pretrained_cfg(name)
        except RuntimeError:  # no such tag
            return None
        tag = tag or (config.tag if config else "") or ""
        return f"{architecture}.{tag}" if tag else architecture

    def build(self, name: str, weights: str | Path | None) -> Network:
        """Build the network.

        Raises:
            BackboneError: timm can't build the network on this machine.
            WeightsError: The weights are not available or don't fit.
        """
        seed = seed_of_random_weights(weights)
        if weights is None:
            return self._pretrained(name)
        module = create(name, seed=seed or 0)
        if seed is not None:
            return network_of(module, f"random:{seed}")
        readout = _readout(module)
        loaded = load_file(
            module,
            weights,
            classifier=readout.classifier(module),
            convert=partial(_converted, name, module),
        )
        if not loaded.classifier:
            readout.without_classifier(module)
        return dataclasses.replace(network_of(module, str(weights)), note=loaded.note)

    def _pretrained(self, name: str) -> Network:
        if self.availability(name) == "none":
            raise WeightsError(
                f"backbone timm:{name} has no pretrained weights; pass --weights FILE or --weights random"
            )
        try:
            module = create(name, pretrained=True)
        except (OSError, RuntimeError, ValueError) as error:
            remedy = (
                'Download them on a machine with network access, e.g. python -c "import timm; '
                f"timm.create_model('{name}', pretrained=True)\", and copy the hub's cache folder, or pass --weights FILE"
            )
            raise download_error(f"timm:{name}", _location(name), error, remedy) from error
        return network_of(module, f"pretrained, {_location(name)}")

    def published(self, name: str) -> Sequence[Published]:
        """Return all sets of published weights of the network with a full name."""
        import timm

        names = timm.list_models(f"{name.partition('.')[0]}.*", pretrained=True)
        configs = {each: timm.get_pretrained_cfg(each) for each in names}
        return [
            Published(
                each,
                config.url if isinstance(config.url, str) else "",
                tuple(getattr(config, field) for field in _TRANSFORM),
            )
            for each, config in configs.items()
            if config is not None
        ]

    def availability(self, name: str) -> Availability:
        """Return whether the cache of the Hugging Face hub or of torch holds the weights."""
        import timm
        import torch
        from huggingface_hub import try_to_load_from_cache

        config = timm.get_pretrained_cfg(name)
        if config is None or not config.has_weights:
            return "none"
        if config.hf_hub_id:
            files = (config.hf_hub_filename,) if config.hf_hub_filename else _HUB_FILES
            repository = config.hf_hub_id.partition("@")[0]
            found = any(isinstance(try_to_load_from_cache(repository, file), str) for file in files)
        else:
            file = config.file or Path(torch.hub.get_dir(), "checkpoints", Path(str(config.url)).name)
            found = Path(file).exists()
        return "local" if found else "download"

    def version(self) -> str:
        """Return the version of timm."""
        import timm

        return f"timm {timm.__version__}"


TIMM = TimmSource()


def create(name: str, *, pretrained: bool = False, seed: int = 0) -> nn.Module:
    """Build a timm model without changing the caller's random state.

    Raises:
        BackboneError: A library that this model needs is missing.
    """
    import timm

    try:
        with seeded(seed):
            module: nn.Module = timm.create_model(name, pretrained=pretrained)
    except ImportError as error:
        raise BackboneError(f"backbone timm:{name} can't be built on this machine: {error}") from error
    return module


def _converted(name: str, module: nn.Module, state: dict[str, Tensor]) -> Mapping[str, Tensor]:
    """Convert tensors of another layout, such as that of the authors, as timm does when it downloads them."""
    convert = _conversion(name)
    with contextlib.redirect_stdout(io.StringIO()):  # one of the conversions prints
        try:
            return convert(state, module)
        except TypeError:  # some take the tensors alone, as timm allows
            return convert(state)


_BUILDING = threading.Lock()


def _conversion(name: str) -> Callable[..., Mapping[str, Tensor]]:
    """Return the function by which timm converts downloaded weights of a model.

    timm has no function that returns it. It passes it to its loader, which is replaced for this thread
    while the model is built.
    """
    from timm.models import _builder

    found: list[Callable[..., Mapping[str, Tensor]]] = []
    thread = threading.get_ident()

    def load(model: nn.Module, *options: Any, **more: Any) -> None:
        if threading.get_ident() == thread:
            found.append(more.get("filter_fn") or (lambda state: state))
        else:
            loader(model, *options, **more)

    with _BUILDING:
        loader = _builder.load_pretrained
        _builder.load_pretrained = load
        try:
            create(name, pretrained=True)
        finally:
            _builder.load_pretrained = loader
    return found[0]


def network_of(module: nn.Module, weights: str) -> Network:
    """Return the network of a module that follows timm's conventions, with the transform of its configuration.

    Raises:
        BackboneError: The module's input is not RGB, or its transform can't be reproduced.
    """
    import timm
    from timm.data.config import resolve_model_data_config

    from frostline.features.images.decoding import transform_from_timm

    config = resolve_model_data_config(module)  # type: ignore[no-untyped-call]
    if config["input_size"][0] != 3:
        raise BackboneError(f"the network takes {config['input_size'][0]} channels; expected 3, RGB")
    return Network(
        module=module,
        transform=transform_from_timm(config),
        readout=_readout(module),
        weights=weights,
        tokens=_tokens(module),
        channels_last=getattr(module, "output_fmt", "NCHW") == "NHWC",
        versions={"timm": timm.__version__},
    )


def _readout(module: nn.Module) -> TimmReadout:
    return TimmReadout(has_logits=getattr(module, "num_classes", 0) > 0)


def _tokens(module: nn.Module) -> ClassTokens | None:
    network: Any = module
    prefix = getattr(network, "num_prefix_tokens", 0)
    patches = getattr(getattr(network, "patch_embed", None), "num_patches", None)
    if not prefix or patches is None:
        return None
    return ClassTokens(
        prefix, has_class=getattr(network, "cls_token", None) is not None, length=patches + prefix
    )


def _location(name: str) -> str:
    import timm

    config = timm.get_pretrained_cfg(name)
    if config is None:
        return "nowhere"
    return f"huggingface.co/{config.hf_hub_id}" if config.hf_hub_id else str(config.url or config.file)
