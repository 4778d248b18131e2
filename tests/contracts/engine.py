"""Contract of engines, which execute the forward pass."""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from frostline.features.backbones import Backbone
from frostline.features.backbones.network import Network
from frostline.features.backbones.readout import ClassifierReadout
from frostline.features.backbones.weights import seeded
from frostline.features.engines import (
    ENGINES,
    TOLERANCE,
    Device,
    Engine,
    EngineKind,
    Features,
    kind_of,
    make_engine,
)
from frostline.features.fidelity import Check
from frostline.features.images.batches import Batch
from frostline.features.spec import MIN_COSINE, Layer, Precision, Transform
from frostline.testing.vectors import batches, distance, photos, vectors

LAYERS = ("embedding", "logits", "norm:max")
TRANSFORM = Transform(40, "shortest", (32, 40), "bicubic", (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))

Make: TypeAlias = Callable[..., Engine]


class TinyNetwork(nn.Module):
    """Convolution, batch normalisation and classifier, which compile quickly."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 5, stride=4)
        self.norm = nn.BatchNorm2d(8)
        for statistic, low, high in ((self.norm.running_mean, -0.5, 0.5), (self.norm.running_var, 0.5, 1.5)):
            if statistic is not None:
                statistic.uniform_(low, high)
        self.head = nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        """Return the (b, 5) class scores of (b, 3, h, w) normalised images."""
        scores: Tensor = self.head(torch.relu(self.norm(self.conv(images))).mean((2, 3)))
        return scores


def tiny_backbone() -> Backbone:
    """Return a backbone with a `TinyNetwork` for images of 32 x 40 pixels."""
    with seeded(0):
        network = TinyNetwork()
    return Backbone("test:tiny", Network(network, TRANSFORM, ClassifierReadout("head"), "random"))


def _expected(backbone: Backbone, images: np.ndarray[Any, np.dtype[np.uint8]]) -> Features:
    """Return the features of `LAYERS` as PyTorch computes them on the CPU in fp32."""
    network: Any = backbone.module
    mean, std = torch.tensor(TRANSFORM.mean), torch.tensor(TRANSFORM.std)
    with torch.inference_mode():
        pixels = ((torch.from_numpy(images) / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()
        maps = network.norm(network.conv(pixels))
        embedding = torch.relu(maps).mean((2, 3))
        outputs = embedding, network.head(embedding), maps.amax((2, 3))
    return {key: output[:, None].numpy() for key, output in zip(LAYERS, outputs, strict=True)}


class EngineContract:
    """Tests of an engine; see `frostline.features.engines.Engine` and `EngineKind`.

    All engines give the features of plain PyTorch in fp32, in the order of the batches, and the features of an image
    do not depend on the other images of its batch.

    Attributes:
        kind: Name of the engine in the registry.
        device: Device of the tests.
        precision: Number format of the tests.

    Fixtures:
        backbone: A small network.
        make: Function that builds an engine for a batch size and, optionally, names of layers and a backbone. Equal
            engines are built once per class.

    Example:
        >>> class TestFast(EngineContract):
        ...     kind = "fast"
        >>> class TestFastInReducedPrecision(TestFast):
        ...     precision = "bf16"
    """

    kind: ClassVar[str]
    device: ClassVar[Device] = "cpu"
    precision: ClassVar[Precision] = "fp32"

    @classmethod
    def build(cls, backbone: Backbone, layers: Sequence[Layer], batch_size: int) -> Engine:
        """Build an engine. A subclass can override it to skip what this machine does not support."""
        return make_engine(
            backbone,
            layers,
            engine=cls.kind,
            precision=cls.precision,
            device=cls.device,
            batch_size=batch_size,
        )

    @pytest.fixture(scope="class")
    @classmethod
    def backbone(cls) -> Backbone:
        """Return a small network."""
        return tiny_backbone()

    @pytest.fixture(scope="class")
    @classmethod
    def make(cls, backbone: Backbone) -> Make:
        """Return a function that builds each engine once."""
        built: dict[tuple[object, ...], Engine] = {}

        def make(batch_size: int, layers: Sequence[str] = LAYERS, of: Backbone = backbone) -> Engine:
            key = batch_size, tuple(layers), of.name
            if key not in built:
                built[key] = cls.build(of, of.resolve_layers(layers), batch_size)
            return built[key]

        return make

    def test_kind_is_registered_for_the_device_and_the_precision(self) -> None:
        """Check the properties that are known before an engine is built."""
        kind = ENGINES[self.kind]
        assert isinstance(kind, EngineKind)
        assert self.device in kind.devices
        assert self.precision in kind.precisions
        assert kind.batch_size is None or kind.batch_size >= 1

    def test_label_begins_with_the_name_in_the_registry(self) -> None:
        """Check that a specification tells which engine it describes, in the same words each time."""
        labels = [ENGINES[self.kind].label(self.device) for _ in range(2)]
        assert labels[0] == labels[1]
        assert kind_of(labels[0]) == self.kind

    def test_attributes_describe_the_engine(self, make: Make) -> None:
        """Check that the engine has the label of its kind, and the options that it was built with."""
        engine = make(4)
        assert engine.name == ENGINES[self.kind].label(self.device)
        assert (engine.device, engine.precision, engine.batch_size) == (self.device, self.precision, 4)
        assert tuple(layer.key for layer in engine.layers) == LAYERS

    def test_features_agree_with_plain_pytorch_in_fp32(self, make: Make, backbone: Backbone) -> None:
        """Check values, shapes and types of all layers, within `TOLERANCE` and with a cosine of `MIN_COSINE` or more."""
        images = photos(backbone, 9)
        found = {key: values[:, 0] for key, values in vectors(make(4), images).items()}
        expected = {key: values[:, 0] for key, values in _expected(backbone, images).items()}
        check = Check.of(found, expected)
        assert check.min_cosine >= MIN_COSINE
        assert check.relative_error <= TOLERANCE[self.precision]

    def test_layers_come_in_the_order_of_the_request(self, make: Make, backbone: Backbone) -> None:
        """Check an engine of fewer layers in another order."""
        images = photos(backbone, 3)
        found, expected = vectors(make(4, ("logits", "embedding")), images), vectors(make(4), images)
        assert distance(found, {key: expected[key] for key in found}) <= TOLERANCE[self.precision]

    def test_features_depend_on_no_neighbour_no_place_and_no_padding(
        self, make: Make, backbone: Backbone
    ) -> None:
        """Check the features of shuffled images, and of another batch size."""
        images = photos(backbone, 11)
        expected = vectors(make(4), images)
        order = [int(row) for row in np.random.default_rng(1).permutation(11)]
        assert distance(vectors(make(4), images, order), expected) <= TOLERANCE[self.precision]
        assert distance(vectors(make(3), images), expected) <= TOLERANCE[self.precision]

    def test_views_of_an_image_stay_together(self, make: Make, backbone: Backbone) -> None:
        """Check that a batch of several views gives (k, views, dim) features."""
        images = photos(backbone, 10)
        found, expected = vectors(make(4), images, views=2), vectors(make(4), images)
        flat = {key: values.reshape(10, 1, -1) for key, values in found.items()}
        assert distance(flat, expected) <= TOLERANCE[self.precision]

    def test_batches_pass_through_in_order_with_what_they_hold(self, make: Make, backbone: Backbone) -> None:
        """Check that more batches than any engine has under way are returned as they are, without the padding."""
        engine, images = make(4), photos(backbone, 50)
        given = list(batches(images, range(50), 4))
        returned = list(engine.run(iter(given)))
        assert [batch is same for (batch, _), same in zip(returned, given, strict=True)] == [True] * 13
        assert [len(outputs["embedding"]) for _, outputs in returned] == [4] * 12 + [2]
        assert not list(engine.run([]))

    def test_features_of_one_batch_survive_the_others(self, make: Make, backbone: Backbone) -> None:
        """Check that no later batch overwrites the features that were returned."""
        run = make(4).run(batches(photos(backbone, 40), range(40), 4))
        _, first = next(run)
        kept = {key: values.copy() for key, values in first.items()}
        assert len(list(run)) == 9
        assert all((first[key] == kept[key]).all() for key in kept)

    def test_it_takes_no_more_batches_than_it_may_hold(self, make: Make, backbone: Backbone) -> None:
        """Check that an engine holds 64 images and two batches per thread at most, and takes none after its iterator is dropped."""
        (batch,) = batches(photos(backbone, 4), range(4), 4)
        taken = 0

        def counted() -> Iterator[Batch]:
            nonlocal taken
            for taken in itertools.count(1):  # read outside
                if taken > 1000:
                    raise AssertionError("the engine takes batches without end")
                yield batch

        run = make(4).run(counted())
        for _ in range(3):
            next(run)
        del run
        most = taken  # an engine may take a batch while the iterator is being dropped
        assert most <= 3 + 2 * torch.get_num_threads() + 64 // 4
        time.sleep(0.1)
        assert taken == most

    def test_a_failing_source_fails_the_run_and_the_next_run_works(
        self, make: Make, backbone: Backbone
    ) -> None:
        """Check that an error of the batches is raised unchanged, and the engine can be used again."""
        images = photos(backbone, 8)

        def failing() -> Iterator[Batch]:
            yield from batches(images, range(4), 4)
            raise OSError("gone")

        expected = vectors(make(4), images)
        with pytest.raises(OSError, match="gone"):
            list(make(4).run(failing()))
        assert distance(vectors(make(4), images), expected) <= TOLERANCE[self.precision]

    def test_backbone_is_unchanged(self, make: Make, backbone: Backbone) -> None:
        """Check that the engine works on a copy of the network, which stays frozen, in fp32 and on the CPU."""
        vectors(make(4), photos(backbone, 4))
        assert backbone.fingerprint() == backbone.weights_sha256
        assert not any(part.training for part in backbone.module.modules())
        parameters = list(backbone.module.parameters())
        assert {parameter.device.type for parameter in parameters} == {"cpu"}
        assert not any(parameter.requires_grad for parameter in parameters)
        assert isinstance(backbone.module.norm, nn.BatchNorm2d)

    def test_a_batch_of_another_shape_is_an_error(self, make: Make, backbone: Backbone) -> None:
        """Check that no features are computed of images of another size."""
        batch = next(batches(photos(backbone, 4), range(4), 4))
        odd = dataclasses.replace(batch, pixels=batch.pixels[:, :1])
        with pytest.raises(RuntimeError):
            list(make(4).run([odd]))
