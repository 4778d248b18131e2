"""The built-in engines meet the contract of engines, and OpenVINO converts every kind of network."""

import os
import subprocess
import sys

import pytest
import torch

from frostline.features.backbones import Backbone, load_backbone
from frostline.features.backbones.network import Network
from frostline.features.backbones.readout import ClassifierReadout
from frostline.features.engines import ENGINES, make_engine
from frostline.features.errors import ConversionError
from frostline.testing import EngineContract
from frostline.testing.engine import TRANSFORM, TinyNetwork
from frostline.testing.vectors import distance, photos, vectors
from tests.helpers.contracts import covered
from tests.helpers.needs import needs_openvino

DROPPED = """
import faulthandler, signal, threading
faulthandler.enable()  # gives handlers a stack of their own, which the CPU plugin replaces by its own
from frostline.features.backbones import load_backbone
from frostline.features.engines import ENGINES, make_engine
signal.signal(signal.SIGINT, lambda *_: print("handled"))
backbone = load_backbone("timm:test_resnet", weights="random:0")
engines = [make_engine(backbone, backbone.resolve_layers(["embedding"]), engine="openvino", device="cpu")]
thread = threading.Thread(target=engines.clear)
thread.start()
thread.join()
signal.raise_signal(signal.SIGINT)
"""


class TestEager(EngineContract):
    kind = "eager"


class TestEagerInReducedPrecision(TestEager):
    precision = "bf16"


class TestCompile(EngineContract):
    kind = "compile"


@needs_openvino
class TestOpenVino(EngineContract):
    kind = "openvino"

    @classmethod
    def build(cls, backbone, layers, batch_size):
        try:
            return super().build(backbone, layers, batch_size)
        except ConversionError as error:
            if "bad combination" in str(error.__cause__) and "ONEDNN_MAX_CPU_ISA" in os.environ:
                pytest.skip("OpenVINO finds no kernels where oneDNN is held to fewer instructions")
            raise

    @pytest.mark.parametrize(
        "name", ["timm:test_resnet", "timm:test_efficientnet", "timm:test_vit", "timm:test_convnext"]
    )
    def test_it_computes_what_eager_does_for_every_kind_of_network(self, make, name):
        backbone = load_backbone(name, weights="random:3")
        images = photos(backbone, 3)
        last = [layer for layer, info in backbone.layers().items() if info.kind != "vector"][-1]
        layers = ("embedding", "logits", f"{last}:max", f"{last}:gem")
        eager = make_engine(backbone, backbone.resolve_layers(layers), precision="fp32", batch_size=2)
        assert distance(vectors(make(2, layers, backbone), images), vectors(eager, images)) < 1e-4

    def test_uneven_split_keeps_short_last_chunk(self):
        class Split(TinyNetwork):
            def forward(self, images):
                parts = torch.split(torch.relu(self.norm(self.conv(images))), 3, dim=1)  # 3, 3 and 2
                return self.head(torch.cat(parts[::-1], 1).mean((2, 3)))

        backbone = Backbone("test:split", Network(Split(), TRANSFORM, ClassifierReadout("head"), "random"))
        embedding, images = backbone.resolve_layers(["embedding"]), photos(backbone, 3)
        ours, eager = (
            vectors(
                make_engine(backbone, embedding, engine=kind, device="cpu", precision="fp32", batch_size=2),
                images,
            )
            for kind in ("openvino", "eager")
        )
        assert distance(ours, eager) < 1e-5

    def test_unsupported_operator_is_reported(self):
        class Bessel(TinyNetwork):
            def forward(self, images):
                return self.head(torch.special.bessel_j0(self.conv(images)).mean((2, 3)))

        backbone = Backbone("test:bessel", Network(Bessel(), TRANSFORM, ClassifierReadout("head"), "random"))
        with pytest.raises(ConversionError, match=r"test:bessel.*bessel_j0.*--engine eager"):
            make_engine(backbone, backbone.resolve_layers(["embedding"]), engine="openvino", device="cpu")

    def test_a_signal_is_handled_after_another_thread_dropped_an_engine(self):
        done = subprocess.run([sys.executable, "-c", DROPPED], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


@pytest.mark.cuda
class TestEagerOnCuda(EngineContract):
    kind = "eager"
    device = "cuda"


@pytest.mark.cuda
class TestCompileOnCuda(EngineContract):
    kind = "compile"
    device = "cuda"


def test_every_built_in_engine_is_tested():
    assert set(ENGINES.builtin) == covered(globals(), EngineContract, "kind")
