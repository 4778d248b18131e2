"""Contract of sources of backbones, and of single backbones of other packages."""

import itertools
import re
from pathlib import Path
from typing import ClassVar, get_args

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from frostline.features.backbones import (
    Backbone,
    FeatureModule,
    Source,
    count_backbones,
    describe,
    list_backbones,
    load_backbone,
    resolve_layers,
)
from frostline.features.backbones.network import Availability
from frostline.features.backbones.providers.registry import SOURCES
from frostline.features.engines import TOLERANCE
from frostline.features.errors import BackboneError, LayerError, WeightsError
from frostline.features.images.decoding import RESAMPLING
from frostline.testing.vectors import photos

_SEVERAL = 50  # names that are looked up


class BackboneSourceContract:
    """Tests of one backbone of a source; see `frostline.features.backbones.Source`.

    A single backbone, which is declared in the entry-point group ``frostline.backbones``, belongs to the source
    ``plugin``. No test downloads weights.

    Attributes:
        prefix: Prefix of the source: its name in the registry.
        name: Name of a small backbone in the source, without the prefix.
        weights: Weights of the tests: ``random``, or None for the pretrained weights if they are on this machine.

    Example:
        >>> class TestZoo(BackboneSourceContract):
        ...     prefix = "zoo"
        ...     name = "tiny"
        >>> class TestOwnNetwork(BackboneSourceContract):
        ...     prefix = "plugin"
        ...     name = "own"
        ...     weights = None
    """

    prefix: ClassVar[str]
    name: ClassVar[str]
    weights: ClassVar[str | None] = "random"

    @property
    def source(self) -> Source:
        """The source."""
        return SOURCES[self.prefix]

    @property
    def full(self) -> str:
        """Full name of the backbone in the source."""
        found = self.source.find(self.name)
        assert found is not None
        return found

    def load(self, weights: str | Path | None) -> Backbone:
        """Load the backbone."""
        return load_backbone(f"{self.prefix}:{self.name}", weights=weights)

    @pytest.fixture
    def backbone(self) -> Backbone:
        """Return the backbone with the weights of the tests."""
        return self.load(self.weights)

    @pytest.fixture(autouse=True)
    def _own_measurements(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def test_prefix_is_the_name_in_the_registry(self) -> None:
        """Check that the registry has the source."""
        assert isinstance(self.source, Source)
        assert self.source.prefix == self.prefix
        assert self.source.version().strip()

    def test_names_are_unique_and_resolve_to_themselves(self) -> None:
        """Check the full names that the source lists."""
        names = list(self.source.names())
        assert names
        assert names == list(self.source.names()) == list(dict.fromkeys(names))
        for name in itertools.islice(names, _SEVERAL):
            assert self.source.find(name) == name
            assert self.source.availability(name) in get_args(Availability)
        assert count_backbones()[self.prefix] == len(names)

    def test_a_name_resolves_to_one_full_name(self, backbone: Backbone) -> None:
        """Check that a name without a tag and the full name are the same backbone."""
        assert self.source.find(self.full) == self.full
        assert self.full in list(self.source.names())
        assert backbone.name == f"{self.prefix}:{self.full}"

    def test_an_unknown_name_is_an_error(self) -> None:
        """Check that a misspelt name is not found, and the message names the source."""
        unknown = f"{self.name}-that-nobody-has"
        assert self.source.find(unknown) is None
        with pytest.raises(BackboneError, match=f"not known to {self.prefix}"):
            load_backbone(f"{self.prefix}:{unknown}", weights=self.weights)

    def test_transform_is_valid(self, backbone: Backbone) -> None:
        """Check sizes and interpolation of the transform."""
        transform = backbone.transform
        sizes = [*np.atleast_1d(transform.resize), *transform.crop]
        assert all(isinstance(int(size), int) and size >= 1 for size in sizes)
        assert isinstance(transform.resize, tuple) or transform.resize_mode != "squash"
        assert transform.interpolation in RESAMPLING

    def test_network_is_described(self, backbone: Backbone) -> None:
        """Check what a cache records: the origin of the weights, and the libraries besides torch."""
        assert isinstance(backbone.module, nn.Module)
        assert backbone.weights.strip()
        assert len(backbone.versions) > 1
        assert all(name and version for name, version in backbone.versions.items())

    def test_weights_are_the_same_each_time(self, backbone: Backbone) -> None:
        """Check the digest of the weights, which is part of a cache's key, and the caller's random numbers."""
        with torch.random.fork_rng(devices=[]):
            state = torch.manual_seed(11).get_state()
            again = self.load(self.weights)
            assert torch.equal(torch.get_rng_state(), state)
        assert again.weights_sha256 == backbone.weights_sha256 == again.fingerprint()

    def test_random_weights_follow_the_seed(self) -> None:
        """Check that ``random`` is ``random:0``, and another seed gives other weights."""
        digests = [self.load(weights).weights_sha256 for weights in ("random", "random:0", "random:1")]
        assert digests[0] == digests[1] != digests[2]

    def test_weights_are_loaded_from_a_file(self, tmp_path: Path) -> None:
        """Check that a file gives its own weights, and one of another network is refused."""
        backbone = self.load("random:1")
        file, other = tmp_path / "own.safetensors", tmp_path / "other.safetensors"
        save_file({key: value.contiguous() for key, value in backbone.module.state_dict().items()}, file)
        assert self.load(file).weights_sha256 == backbone.weights_sha256
        save_file({"other.weight": torch.zeros(1)}, other)
        with pytest.raises(WeightsError, match=r"other\.safetensors"):
            self.load(other)

    def test_pretrained_weights_that_do_not_exist_are_an_error(self) -> None:
        """Check that a source without pretrained weights gives no random ones instead."""
        if self.source.availability(self.full) == "none":
            with pytest.raises(WeightsError):
                self.load(None)

    def test_layers_give_vectors_of_the_promised_length(self, backbone: Backbone) -> None:
        """Check the embedding, and some of the inner layers with their default pool."""
        layers = backbone.layers()
        assert next(iter(layers)) == "embedding"
        inner = list(layers)[1:]
        chosen = backbone.resolve_layers(["embedding", *inner[:2], *inner[-2:]])
        outputs = _features(backbone, [layer.key for layer in chosen], 2)
        for layer, output in zip(chosen, outputs, strict=True):
            assert (output.dtype, output.shape) == (torch.float32, (2, layer.dim))
            assert torch.isfinite(output).all()
        with pytest.raises(LayerError, match="no_such_layer"):
            backbone.resolve_layers(["no_such_layer"])

    def test_features_depend_on_the_image_alone(self, backbone: Backbone) -> None:
        """Check that images differ, and that an image has the same features in every pass and batch."""
        together, again = (_features(backbone, ["embedding"], 3)[0] for _ in range(2))
        torch.testing.assert_close(again, together, rtol=0, atol=0)
        assert not torch.equal(together[0], together[1])
        (alone,) = _features(backbone, ["embedding"], 1)
        assert float((alone[0] - together[0]).norm() / together[0].norm()) <= TOLERANCE["fp32"]

    def test_it_is_listed_and_described(self, backbone: Backbone) -> None:
        """Check parameters, width and input size, which are found without loading weights."""
        info = describe(f"{self.prefix}:{self.name}")
        listed = {each.name: each for each in list_backbones(re.sub(r"[*?\[]", "?", backbone.name))}
        assert listed[backbone.name] == info
        assert info.source == self.prefix
        assert info.input_size == backbone.transform.crop
        assert info.dim == backbone.layers()["embedding"].dim
        assert info.gflops >= 0
        layers = tuple(backbone.layers())[:4]
        assert resolve_layers(backbone.name, layers) == backbone.resolve_layers(layers)


def _features(backbone: Backbone, layers: list[str], count: int) -> tuple[torch.Tensor, ...]:
    """Return the features of `count` images, (count, dim) float32 for each layer."""
    module = FeatureModule(backbone, backbone.resolve_layers(layers))
    with torch.inference_mode():
        outputs: tuple[torch.Tensor, ...] = module(torch.from_numpy(photos(backbone, count)))
    return outputs
