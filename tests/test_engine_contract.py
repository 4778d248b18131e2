"""What holds for every engine, on every kind of network: the same vectors, in order, whatever the batches are."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from frostline.features.backbones import Backbone, load_backbone
from frostline.features.backbones.network import Network
from frostline.features.backbones.readout import ClassifierReadout
from frostline.features.engines import ENGINES, TOLERANCE, ConversionError, make_engine
from frostline.features.images.batches import Batch
from frostline.features.spec import Transform
from frostline.features.table import OK

TRANSFORM = Transform(
    resize=40,
    resize_mode="shortest",
    crop=(32, 40),
    interpolation="bicubic",
    mean=(0.4, 0.5, 0.6),
    std=(0.2, 0.25, 0.3),
)


DROPPED = """
import faulthandler, signal, threading
faulthandler.enable()  # gives handlers a stack of their own, which the CPU plugin replaces by its own
from frostline.features.backbones import load_backbone
from frostline.features.engines import make_engine
signal.signal(signal.SIGINT, lambda *_: print("handled"))
backbone = load_backbone("timm:test_resnet", weights="random:0")
engines = [make_engine(backbone, backbone.resolve_layers(["embedding"]), engine="openvino", device="cpu")]
thread = threading.Thread(target=engines.clear)
thread.start()
thread.join()
signal.raise_signal(signal.SIGINT)
"""


class Tiny(nn.Module):
    """A convolution, its normalisation and a classifier: all that a compiler can take long over, left out."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 5, stride=4)
        self.norm = nn.BatchNorm2d(8)
        self.norm.running_mean.uniform_(-0.5, 0.5)
        self.norm.running_var.uniform_(0.5, 1.5)
        self.head = nn.Linear(8, 5)

    def forward(self, images):
        return self.head(torch.relu(self.norm(self.conv(images))).mean((2, 3)))


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return Backbone("test:tiny", Network(Tiny(), TRANSFORM, ClassifierReadout("head"), "random"))


def pictures(backbone, count):
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    height, width = backbone.transform.crop
    return np.kron(coarse, np.ones((1, -(-height // 8), -(-width // 8), 1), np.uint8))[:, :height, :width]


def batches(images, order, size):
    for start in range(0, len(order), size):
        rows = np.asarray(order[start : start + size])
        pixels = np.full((size, *images.shape[1:]), 255, np.uint8)  # what the padding holds must not matter
        pixels[: len(rows)] = images[rows]
        yield Batch(
            rows=rows,
            pixels=pixels,
            content=np.zeros((len(rows), 16), np.uint8),
            stamps=np.zeros((len(rows), 16), np.uint8),
            status=np.full(len(rows), OK, np.uint8),
            errors=("",) * len(rows),
        )


def vectors(engine, images, order=None):
    """Features by layer key, in the order of `images`."""
    found = {layer.key: np.full((len(images), 1, layer.dim), np.nan, np.float32) for layer in engine.layers}
    order = list(range(len(images)) if order is None else order)
    for batch, outputs in engine.run(batches(images, order, engine.batch_size)):
        assert outputs.keys() == found.keys()
        for key, values in outputs.items():
            assert values.dtype == np.float32
            found[key][batch.rows] = values
    return found


def distance(found, expected):
    """Largest norm of a difference, relative to the vector's norm."""
    assert found.keys() == expected.keys()
    return max(
        float(
            (np.linalg.norm(found[key] - expected[key], axis=2) / np.linalg.norm(expected[key], axis=2)).max()
        )
        for key in expected
    )


def plain(backbone, images):
    """The embedding as the network itself gives it, in fp32."""
    transform = backbone.transform
    mean, std = torch.tensor(transform.mean), torch.tensor(transform.std)
    with torch.inference_mode():
        batch = ((torch.from_numpy(images) / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()
        if isinstance(backbone.module, Tiny):
            network = backbone.module
            output = torch.relu(network.norm(network.conv(batch))).mean((2, 3))
        else:
            output = backbone.module.forward_head(backbone.module.forward_features(batch), pre_logits=True)
    return {"embedding": output[:, None].numpy()}


@pytest.fixture(scope="class")
def make(request, tiny):
    """Build an engine of the class's kind, each once."""
    built = {}

    def make(batch_size, layers=("embedding", "logits"), backbone=tiny):
        key = batch_size, layers, backbone.name
        if key not in built:
            try:
                built[key] = make_engine(
                    backbone,
                    backbone.resolve_layers(layers),
                    engine=request.cls.kind,
                    precision="fp32",
                    device=request.cls.device,
                    batch_size=batch_size,
                )
            except ConversionError as error:
                if "bad combination" in str(error.__cause__) and "ONEDNN_MAX_CPU_ISA" in os.environ:
                    pytest.skip("OpenVINO finds no kernels where oneDNN is held to fewer instructions")
                raise
        return built[key]

    return make


class EngineContract:
    """Every engine's tests inherit these."""

    kind: str
    device = "cpu"

    def test_attributes_describe_the_engine(self, make):
        engine = make(4)
        assert engine.name.startswith(self.kind)
        assert (engine.device, engine.precision, engine.batch_size) == (self.device, "fp32", 4)
        assert [layer.key for layer in engine.layers] == ["embedding", "logits"]

    def test_fp32_equals_the_plain_network(self, make, tiny):
        images = pictures(tiny, 9)
        found = vectors(make(4), images)
        assert distance({"embedding": found["embedding"]}, plain(tiny, images)) < 1e-5

    def test_features_depend_on_no_neighbour_no_place_and_no_padding(self, make, tiny):
        images = pictures(tiny, 11)
        expected = vectors(make(4), images)
        order = list(np.random.default_rng(1).permutation(11))
        assert distance(vectors(make(4), images, order), expected) <= TOLERANCE["fp32"]
        assert distance(vectors(make(3), images), expected) <= TOLERANCE["fp32"]

    def test_batches_pass_through_in_order_with_what_they_hold(self, make, tiny):
        engine, images = make(4), pictures(tiny, 50)  # more batches than any engine has under way
        given = list(batches(images, list(range(50)), 4))
        returned = list(engine.run(iter(given)))
        assert [batch is same for (batch, _), same in zip(returned, given, strict=True)] == [True] * 13
        assert [len(outputs["embedding"]) for _, outputs in returned] == [4] * 12 + [2]
        assert not list(engine.run([]))

    def test_features_of_one_batch_survive_the_others(self, make, tiny):
        run = make(4).run(batches(pictures(tiny, 40), list(range(40)), 4))
        _, first = next(run)
        kept = {key: values.copy() for key, values in first.items()}
        list(run)
        assert all((first[key] == kept[key]).all() for key in kept)

    def test_it_takes_no_more_batches_than_it_may_hold(self, make, tiny):
        taken = 0

        def counted():
            nonlocal taken
            for batch in batches(pictures(tiny, 4), [0, 1, 2, 3], 4):
                while True:
                    taken += 1
                    yield batch

        run = make(4).run(counted())
        for _ in range(3):
            next(run)
        limit = taken
        assert limit <= 3 + 2 * torch.get_num_threads() + 64 // 4
        run.close()
        assert taken == limit

    def test_a_failing_source_fails_the_run_and_the_next_run_works(self, make, tiny):
        images = pictures(tiny, 8)

        def failing():
            yield from batches(images, [0, 1, 2, 3], 4)
            raise OSError("gone")

        with pytest.raises(OSError, match="gone"):
            list(make(4).run(failing()))
        assert distance(vectors(make(4), images), vectors(make(4), images)) <= TOLERANCE["fp32"]

    def test_backbone_is_unchanged(self, make, tiny):
        vectors(make(4), pictures(tiny, 4))
        assert tiny.fingerprint() == tiny.weights_sha256
        assert {parameter.device.type for parameter in tiny.module.parameters()} == {"cpu"}
        assert isinstance(tiny.module.norm, nn.BatchNorm2d)

    def test_a_batch_of_another_shape_is_an_error(self, make, tiny):
        batch = next(batches(pictures(tiny, 4), [0, 1, 2, 3], 4))
        odd = dataclasses.replace(batch, pixels=batch.pixels[:, :1])
        with pytest.raises(RuntimeError):
            list(make(4).run([odd]))


class TestEager(EngineContract):
    kind = "eager"


class TestCompile(EngineContract):
    kind = "compile"


@pytest.mark.skipif(bool(ENGINES.missing("openvino")), reason="needs the extra openvino")
class TestOpenVino(EngineContract):
    kind = "openvino"

    @pytest.mark.parametrize(
        "name", ["timm:test_resnet", "timm:test_efficientnet", "timm:test_vit", "timm:test_convnext"]
    )
    def test_it_computes_what_eager_does_for_every_kind_of_network(self, make, name):
        backbone = load_backbone(name, weights="random:3")
        images = pictures(backbone, 3)
        last = [layer for layer, info in backbone.layers().items() if info.kind != "vector"][-1]
        layers = ("embedding", "logits", f"{last}:max", f"{last}:gem")
        eager = make_engine(backbone, backbone.resolve_layers(layers), precision="fp32", batch_size=2)
        assert distance(vectors(make(2, layers, backbone), images), vectors(eager, images)) < 1e-4

    def test_uneven_split_keeps_short_last_chunk(self):
        class Split(Tiny):
            def forward(self, images):
                parts = torch.split(torch.relu(self.norm(self.conv(images))), 3, dim=1)  # 3, 3 and 2
                return self.head(torch.cat(parts[::-1], 1).mean((2, 3)))

        backbone = Backbone("test:split", Network(Split(), TRANSFORM, ClassifierReadout("head"), "random"))
        embedding, images = backbone.resolve_layers(["embedding"]), pictures(backbone, 3)
        ours, eager = (
            vectors(
                make_engine(backbone, embedding, engine=kind, device="cpu", precision="fp32", batch_size=2),
                images,
            )
            for kind in ("openvino", "eager")
        )
        assert distance(ours, eager) < 1e-5

    def test_unsupported_operator_is_reported(self):
        class Bessel(Tiny):
            def forward(self, images):
                return self.head(torch.special.bessel_j0(self.conv(images)).mean((2, 3)))

        backbone = Backbone("test:bessel", Network(Bessel(), TRANSFORM, ClassifierReadout("head"), "random"))
        with pytest.raises(ConversionError, match=r"test:bessel.*bessel_j0.*--engine eager"):
            make_engine(backbone, backbone.resolve_layers(["embedding"]), engine="openvino", device="cpu")

    def test_a_signal_is_handled_after_another_thread_dropped_an_engine(self):
        done = subprocess.run([sys.executable, "-c", DROPPED], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
class TestEagerOnCuda(EngineContract):
    kind = "eager"
    device = "cuda"


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
class TestCompileOnCuda(EngineContract):
    kind = "compile"
    device = "cuda"
