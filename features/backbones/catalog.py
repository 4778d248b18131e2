"""Catalog of the available backbones with their parameters, operations, feature width and input size."""

import contextlib
import fnmatch
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self, TypeAlias

import torch
from msgspec import Meta, Struct
from torch.utils.flop_counter import FlopCounterMode

from frostline.features.backbones.layers import discover, resolve
from frostline.features.backbones.network import Availability, Network, Source
from frostline.features.backbones.providers.registry import SOURCES, find, installed_sources
from frostline.features.backbones.readout import EMBEDDING
from frostline.features.backbones.stages import Stage, derive_stages
from frostline.features.backbones.tuned import TUNED, load_tuned
from frostline.features.errors import BackboneError
from frostline.features.spec import Layer
from frostline.files.documents import MAX_BYTES, convert, parse_json
from frostline.system.atomic import replace_file
from frostline.system.files import read_regular
from frostline.system.user_folders import user_cache


@dataclass(frozen=True)
class BackboneInfo:
    """Description of a backbone and its cost.

    Attributes:
        name: Full name, with the source and the tag of the weights.
        source: ``embedded``, ``timm``, ``torchvision``, ``open_clip``, ``small`` or ``plugin``.
        parameters: Number of parameters of the whole network, including its classifier.
        gflops: 10^9 multiply-adds per image, which papers call FLOPs.
        dim: Width of the embedding.
        input_size: (height, width) in pixels.
        weights: Availability of the pretrained weights: ``local``: on this machine; ``download``; or ``none``.
    """

    name: str
    source: str
    parameters: int
    gflops: float
    dim: int
    input_size: tuple[int, int]
    weights: Availability


def list_backbones(pattern: str | None = None) -> Iterator[BackboneInfo]:
    """Describe backbones one by one. A new backbone takes about 1 s, and a known one is read from the user's cache.

    Args:
        pattern: Glob (``timm:resnet*``) or part of the name, with or without the source. Case is ignored. None
            lists the backbones that are usable without a download.

    Yields:
        Descriptions in the order of the sources. Backbones that can't be built on this machine, or that return no
        embedding, are skipped.
    """
    with _Measurements() as measurements:
        for source, name in _matching(pattern):
            with contextlib.suppress(BackboneError):
                yield measurements.describe(source, name)


def describe(name: str, size: tuple[int, int] | None = None) -> BackboneInfo:
    """Describe one backbone.

    Args:
        name: Name with or without the source.
        size: (height, width) of the input in pixels; None for the input size of the weights.

    Raises:
        BackboneError: The backbone is unknown, can't be built on this machine, or doesn't support that size.
    """
    source, found = find(name)
    with _Measurements() as measurements:
        return measurements.describe(source, found, size)


def list_stages(name: str) -> tuple[Stage, ...]:
    """Return the stages of a backbone. Its weights need not be downloaded.

    Raises:
        BackboneError: The backbone is unknown, or can't be built or run on this machine.
    """
    if name.startswith(TUNED):
        return load_tuned(name.removeprefix(TUNED)).stages()
    network = _on_meta(*find(name))
    network.module.eval().requires_grad_(requires_grad=False)
    return derive_stages(network, discover(network))


def resolve_layers(name: str, layers: Sequence[str]) -> tuple[Layer, ...]:
    """Return layers of a backbone; see `Backbone.resolve_layers`. Its weights need not be downloaded.

    Raises:
        BackboneError: The backbone is unknown, or can't be built or run on this machine.
        LayerError: The backbone doesn't have a layer or pool. The message lists valid ones.
    """
    if name.startswith(TUNED):
        return load_tuned(name.removeprefix(TUNED)).resolve_layers(layers)
    return resolve(layers, discover(_on_meta(*find(name))))


def count_backbones() -> dict[str, int]:
    """Return the number of names in each source; 0 for a source whose library isn't installed."""
    counts = dict.fromkeys(SOURCES, 0)
    return counts | {source.prefix: sum(1 for _ in source.names()) for source in installed_sources()}


def _matching(pattern: str | None) -> Iterator[tuple[Source, str]]:
    for source in installed_sources():
        for name in source.names():
            if (
                source.availability(name) == "local"
                if pattern is None
                else _matches(pattern, source.prefix, name)
            ):
                yield source, name


def _matches(pattern: str, prefix: str, name: str) -> bool:
    pattern, full = pattern.lower(), f"{prefix}:{name}".lower()
    if any(character in pattern for character in "*?["):
        return fnmatch.fnmatchcase(full, pattern) or fnmatch.fnmatchcase(name.lower(), pattern)
    return pattern in full


_Size: TypeAlias = Annotated[int, Meta(ge=0, le=2**53)]


class _Measurement(Struct, frozen=True):
    """Measurement of one network, as stored."""

    parameters: _Size
    gflops: Annotated[float, Meta(ge=0)]
    dim: _Size
    input_size: tuple[_Size, _Size]


class _Measurements:
    """Earlier measurements, stored in the user's cache folder by backbone and library versions.

    The file is optional. Failures to read or write it are ignored.
    """

    def __init__(self) -> None:
        self._path = user_cache() / "backbones.json"
        self._known: dict[str, Any] = {}
        self._measured: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Self:
        self._known = self._read()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._measured:
            with contextlib.suppress(OSError):
                document = json.dumps(self._read() | self._measured, indent=0, sort_keys=True)
                replace_file(self._path, document.encode())

    def describe(self, source: Source, name: str, size: tuple[int, int] | None = None) -> BackboneInfo:
        full = f"{source.prefix}:{name}"
        key = f"{full}, {source.version()}, torch {torch.__version__}"
        key += f", {size[0]} x {size[1]} pixels" if size else ""
        try:
            measured = convert(self._known[key], _Measurement)
        except (KeyError, ValueError):  # unknown, or not written by this class
            self._known[key] = self._measured[key] = _measure(source, name, size)
            measured = convert(self._known[key], _Measurement)
        return BackboneInfo(
            name=full,
            source=source.prefix,
            parameters=measured.parameters,
            gflops=measured.gflops,
            dim=measured.dim,
            input_size=measured.input_size,
            weights=source.availability(name),
        )

    def _read(self) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError):
            found = parse_json(read_regular(self._path, MAX_BYTES))
            if isinstance(found, dict):
                return found
        return {}


def _measure(source: Source, name: str, size: tuple[int, int] | None) -> dict[str, Any]:
    network = _on_meta(source, name)
    height, width = size or network.transform.crop
    module = network.module.eval().requires_grad_(requires_grad=False)
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(torch.empty(1, 3, height, width, device="meta"))
    except (AssertionError, RuntimeError) as error:
        if size is None:
            raise
        raise BackboneError(
            f"backbone {name}: images of {height} x {width} pixels aren't supported ({error})"
        ) from error
    return {
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "gflops": counter.get_total_flops() / 2e9,  # the counter counts a multiply-add as two operations
        "dim": discover(network)[EMBEDDING].dim,
        "input_size": [height, width],
    }


def _on_meta(source: Source, name: str) -> Network:
    """Build the network on the meta device, with shapes but no values."""
    try:
        with torch.device("meta"):
            return source.build(name, "random")
    except (NotImplementedError, RuntimeError):  # a constructor that computes with tensors
        network = source.build(name, "random")
        network.module.to("meta")
        return network
