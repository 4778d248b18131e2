import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from frostline.features.backbones import FeatureModule, load_backbone
from frostline.features.backbones.weights import fingerprint
from frostline.features.engines import TOLERANCE, cuda, make_engine, plan
from frostline.features.errors import DeviceMemoryError, EngineError
from frostline.testing.vectors import batches, distance, distances, photos, vectors
from tests.features.networks import resized

SMALL = ("timm:test_resnet", "timm:test_efficientnet", "timm:test_vit", "timm:test_convnext")
LAYERS = ("embedding", "logits")


@pytest.fixture(scope="module")
def backbones():
    return {name: resized(load_backbone(name, weights="random:3"), 64) for name in SMALL}


def extract(backbone, images, *, order=None, batch_size=8, layers=LAYERS, **options):
    """Features by an engine made for them."""
    engine = make_engine(backbone, backbone.resolve_layers(layers), batch_size=batch_size, **options)
    return vectors(engine, images, order)


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


@pytest.fixture(params=DEVICES)
def device(request):
    return request.param


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["timm:test_efficientnet", "timm:test_vit", "timm:test_convnext"])
def test_features_depend_on_no_neighbour_no_place_and_no_padding(backbones, name, precision, device):
    backbone = backbones[name]
    images = photos(backbone, 11)
    options = {"precision": precision, "device": device}
    expected = extract(backbone, images, batch_size=4, **options)  # the last batch is padded
    shuffled = list(np.random.default_rng(1).permutation(11))
    for order, batch_size in ((shuffled, 4), (None, 1), (shuffled, 11), (shuffled, 7), (None, 16)):
        found = extract(backbone, images, order=order, batch_size=batch_size, **options)
        assert distance(found, expected) <= TOLERANCE[precision]
    for apart in range(1, 11):  # the images tell apart: a mixed-up row would show
        other = {key: np.roll(values, apart, axis=0) for key, values in expected.items()}
        assert distances(other, expected).min() > 2 * TOLERANCE[precision]


@pytest.mark.parametrize("name", SMALL)
def test_fp32_equals_the_plain_network(backbones, name, device):
    backbone = backbones[name]
    images = photos(backbone, 5)
    mean, std = torch.tensor(backbone.transform.mean), torch.tensor(backbone.transform.std)
    with torch.inference_mode():
        batch = ((torch.from_numpy(images) / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()
        trunk = backbone.module.forward_features(batch)
        embedding = backbone.module.forward_head(trunk, pre_logits=True)
        logits = backbone.module.forward_head(trunk)
    plain = {"embedding": embedding[:, None].numpy(), "logits": logits[:, None].numpy()}
    assert distance(extract(backbone, images, precision="fp32", device=device), plain) < 1e-4


def test_reduced_precision_is_near_fp32_but_not_it(resnet, device):
    images = photos(resnet, 4)
    exact = extract(resnet, images, precision="fp32", device=device)
    reduced = extract(resnet, images, precision="bf16", device=device)
    assert 1e-4 < distance(reduced, exact) < 5e-2


def test_the_real_default_backbone_agrees_with_its_own_module(device):
    backbone = load_backbone("efficientnet_lite0")
    images = photos(backbone, 3)
    with torch.inference_mode():
        plain = FeatureModule(backbone, backbone.resolve_layers(["embedding", "blocks.4"]))(
            torch.from_numpy(images)
        )
    expected = {"embedding": plain[0][:, None].numpy(), "blocks.4:avg": plain[1][:, None].numpy()}
    found = extract(
        backbone, images, layers=["embedding", "blocks.4"], batch_size=2, precision="fp32", device=device
    )
    assert distance(found, expected) < 1e-4


def test_several_layers_and_pools_come_out_of_one_pass(resnet):
    layers = ["embedding", "layer1", "layer2:max", "layer3:gem", "layer4:none"]
    images = photos(resnet, 3)
    together = extract(resnet, images, layers=layers)
    assert list(together) == ["embedding", "layer1:avg", "layer2:max", "layer3:gem", "layer4"]
    for layer in layers:
        alone = extract(resnet, images, layers=[layer])
        assert distance(alone, {key: together[key] for key in alone}) < TOLERANCE["fp32"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_extraction_changes_no_parameter_and_no_buffer(resnet, precision):
    assert any(isinstance(part, nn.BatchNorm2d) for part in resnet.module.modules())
    layers = resnet.resolve_layers(LAYERS)
    engine = make_engine(resnet, layers, precision=precision, device="cpu", batch_size=4)
    ours = fingerprint(engine.module)
    for _ in engine.run(batches(photos(resnet, 9), range(9), 4)):
        pass
    assert fingerprint(engine.module) == ours
    assert resnet.fingerprint() == resnet.weights_sha256


def test_an_engine_in_training_mode_is_refused(resnet):
    engine = make_engine(resnet, resnet.resolve_layers(["embedding"]), batch_size=2)
    engine.module.network.layer1.train()
    with pytest.raises(RuntimeError, match="frozen"):
        next(engine.run(batches(photos(resnet, 2), range(2), 2)))


# -- choices


def test_precision_follows_what_the_cpu_computes_natively(resnet, monkeypatch):
    layers = resnet.resolve_layers(["embedding"])

    def chosen(**capabilities):
        monkeypatch.setattr(plan, "_cpu_capabilities", lambda: capabilities)
        return make_engine(resnet, layers, device="cpu").precision

    assert chosen(avx2=True) == "fp32"
    assert chosen(avx2=True, amx_bf16=False, avx512_bf16=False) == "fp32"
    assert chosen(avx512_bf16=True) == "bf16"
    assert chosen(amx_bf16=True) == "bf16"
    assert chosen(neon=True, bf16=True) == "bf16"


def test_cpu_limited_to_fewer_instructions_has_no_bf16():
    script = "from frostline.features.engines import plan; print(any('bf16' in name for name in plan._cpu_capabilities()))"
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_fp16_on_a_cpu_without_it_is_refused(resnet, monkeypatch):
    layers = resnet.resolve_layers(["embedding"])
    monkeypatch.setattr(plan, "_cpu_capabilities", lambda: {"amx_fp16": False})
    with pytest.raises(EngineError, match=r"'fp16' isn't supported by this CPU.*expected auto, fp32 or bf16"):
        make_engine(resnet, layers, precision="fp16", device="cpu")
    monkeypatch.setattr(plan, "_cpu_capabilities", lambda: {"amx_fp16": True})
    assert make_engine(resnet, layers, precision="fp16", device="cpu").precision == "fp16"


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"precision": "fp8"}, "precision 'fp8'; expected auto, fp32, bf16, fp16"),
        ({"device": "tpu"}, "device 'tpu'; expected auto, cuda, mps, cpu"),
        ({"batch_size": 0}, "batch size 0; expected at least 1"),
    ],
)
def test_bad_options_are_named(resnet, options, match):
    with pytest.raises(EngineError, match=match):
        make_engine(resnet, resnet.resolve_layers(["embedding"]), **options)


def test_no_layers_are_refused(resnet):
    with pytest.raises(EngineError, match="no layers"):
        make_engine(resnet, ())


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_unavailable_device_is_refused_and_skipped_by_auto(resnet):
    layers = resnet.resolve_layers(["embedding"])
    with pytest.raises(EngineError, match=r"'cuda' isn't available to torch .* expected auto.*cpu"):
        make_engine(resnet, layers, device="cuda")
    engine = make_engine(resnet, layers)
    assert engine.device in {"cpu", "mps"}
    assert engine.name == "eager"
    assert engine.batch_size == 32


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("can't allocate memory")]
)
def test_out_of_memory_error_recommends_smaller_batch(resnet, monkeypatch, error):
    engine = make_engine(resnet, resnet.resolve_layers(["embedding"]), batch_size=4)

    def exhausted(_pixels):
        raise error

    monkeypatch.setattr(engine.module, "forward", exhausted)
    with pytest.raises(DeviceMemoryError, match=r"batch of 4 images.*smaller --batch-size"):
        next(engine.run(batches(photos(resnet, 4), range(4), 4)))


def test_other_errors_of_forward_pass_propagate(resnet):
    engine = make_engine(resnet, resnet.resolve_layers(["embedding"]), batch_size=2)
    grey = dataclasses.replace(
        next(batches(photos(resnet, 2), range(2), 2)), pixels=np.zeros((2, 64, 64, 1), np.uint8)
    )
    engine.module.network.conv1 = nn.Identity()
    with pytest.raises(RuntimeError) as caught:
        next(engine.run([grey]))
    assert not isinstance(caught.value, DeviceMemoryError)


@pytest.mark.parametrize("free", [1, 1 << 24, 1 << 30, 1 << 33, 1 << 37])
def test_the_batch_on_a_gpu_is_a_power_of_two_that_fits_its_memory(resnet, monkeypatch, free):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free, free))
    size = plan._auto_batch_size("eager", resnet, "cuda")
    largest = max(np.prod(info.shape) for info in resnet.layers().values())
    assert 256 % size == 0
    assert size == 1 or size * largest * 4 <= free / 2
    assert size == 256 or 2 * size * largest * 4 * plan._LIVE_OUTPUTS > free / 2


@pytest.fixture(params=[True, False])
def callers_tf32(request):
    matmul = torch.backends.cuda.matmul
    before, matmul.allow_tf32 = matmul.allow_tf32, request.param
    yield request.param
    matmul.allow_tf32 = before


def test_cuda_disables_tf32_and_restores_settings(callers_tf32):
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = (callers_tf32, cudnn.allow_tf32, cudnn.benchmark)
    with cuda.cuda_settings():
        assert (matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark) == (False, False, True)
    assert (matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark) == before


COMPILED = """
import torch
from torch import nn
from frostline.features.engines.compiler import compile_network
torch.set_num_threads(1)
torch.manual_seed(0)
network = nn.Sequential(nn.Conv2d(3, 8, 5, stride=4), nn.ReLU()).eval().requires_grad_(False)
images = torch.rand(4, 3, 32, 40)
with torch.no_grad():
    got = compile_network(network, dynamic=False, options={"freezing": True})(images)
    torch.testing.assert_close(got, network(images))
"""


@pytest.mark.long
def test_compiled_code_is_not_used_with_other_instructions(tmp_path):
    """PyTorch finds it again whatever the instructions are, and then computes infinities."""
    for capability in (None, "default"):
        environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
        environment.pop("ATEN_CPU_CAPABILITY", None)
        if capability:
            environment["ATEN_CPU_CAPABILITY"] = capability
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", COMPILED],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not done.returncode, done.stderr
