import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from frostline.features.backbones import Backbone, FeatureModule, load_backbone
from frostline.features.backbones.forward.folding import fold_batch_norms
from frostline.features.backbones.weights import fingerprint
from frostline.features.engines import TOLERANCE, DeviceMemoryError, EngineError, cuda, make_engine, plan
from frostline.features.images.batches import Batch
from frostline.features.table import OK

SMALL = ("timm:test_resnet", "timm:test_efficientnet", "timm:test_vit", "timm:test_convnext")
LAYERS = ("embedding", "logits")


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Small networks gain nothing from more, and threads that wait for a busy core take very long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def backbones():
    return {name: small(load_backbone(name, weights="random:3")) for name in SMALL}


@pytest.fixture(scope="module")
def resnet(backbones):
    return backbones["timm:test_resnet"]


def small(backbone):
    """The same network on fewer pixels."""
    transform = dataclasses.replace(backbone.transform, crop=(64, 64))
    return Backbone(backbone.name, dataclasses.replace(backbone.network, transform=transform))


def photos(backbone, count):
    """Smooth images with sharp edges, none like another."""
    generator = np.random.default_rng(0)
    height, width = backbone.transform.crop
    coarse = generator.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((1, -(-height // 8), -(-width // 8), 1), np.uint8))[:, :height, :width]


def batches(images, order, size):
    """As the loader gives them: one shape, the last one padded; what the padding holds must not matter."""
    for start in range(0, len(order), size):
        rows = np.asarray(order[start : start + size])
        count = len(rows)
        pixels = np.full((size, *images.shape[1:]), 255, np.uint8)
        pixels[:count] = images[rows]
        yield Batch(
            rows=rows,
            pixels=pixels,
            content=np.zeros((count, 16), np.uint8),
            stamps=np.zeros((count, 16), np.uint8),
            status=np.full(count, OK, np.uint8),
            errors=("",) * count,
        )


def extract(backbone, images, *, order=None, batch_size=8, layers=LAYERS, **options):
    """Features by layer key, in the order of `images` whatever order they were computed in."""
    engine = make_engine(backbone, backbone.resolve_layers(layers), batch_size=batch_size, **options)
    order = range(len(images)) if order is None else order
    found = {layer.key: np.full((len(images), 1, layer.dim), np.nan, np.float32) for layer in engine.layers}
    for batch, vectors in engine.run(batches(images, list(order), batch_size)):
        assert vectors.keys() == found.keys()
        for key, values in vectors.items():
            assert values.dtype == np.float32
            found[key][batch.rows] = values
    return found


def distances(found, expected):
    """By layer and image, the norm of the difference relative to the vector's norm."""
    norm = np.linalg.norm
    return np.stack(
        [norm(found[key] - expected[key], axis=2) / norm(expected[key], axis=2) for key in expected]
    )


def distance(found, expected):
    return float(distances(found, expected).max())


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


@pytest.fixture(params=DEVICES)
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
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


def test_batches_pass_through_in_order_with_what_they_hold(resnet, device):
    given = list(batches(photos(resnet, 7), range(7), 3))
    engine = make_engine(resnet, resnet.resolve_layers(["embedding"]), device=device, batch_size=3)
    returned = list(engine.run(iter(given)))
    assert [batch is same for (batch, _), same in zip(returned, given, strict=True)] == [True] * 3
    assert [len(vectors["embedding"]) for _, vectors in returned] == [3, 3, 1]
    assert not list(engine.run([]))


def test_features_of_one_batch_survive_the_next(resnet, device):
    engine = make_engine(
        resnet, resnet.resolve_layers(["embedding", "layer4:none"]), device=device, batch_size=2
    )
    run = engine.run(batches(photos(resnet, 6), range(6), 2))
    _, first = next(run)
    kept = {key: values.copy() for key, values in first.items()}
    list(run)
    for key, values in kept.items():
        np.testing.assert_array_equal(first[key], values)


# -- folding


@pytest.mark.parametrize(
    "name", ["timm:test_resnet", "timm:test_efficientnet", "torchvision:shufflenet_v2_x0_5"]
)
def test_folding_removes_batch_norms_and_keeps_the_function(name):
    backbone = load_backbone(name, weights="random:3")
    for part in backbone.module.modules():  # as trained, not as initialised
        if isinstance(part, nn.BatchNorm2d):
            for tensor, low in ((part.running_mean, -0.5), (part.running_var, 0.5), (part.weight, 0.5)):
                tensor.data.uniform_(low, low + 1)
            part.bias.data.uniform_(-0.5, 0.5)
    layers = backbone.resolve_layers(
        [*LAYERS, next(x for x, i in backbone.layers().items() if i.kind == "map")]
    )
    pixels = torch.from_numpy(photos(backbone, 2))
    plain, folded = FeatureModule(backbone, layers), FeatureModule(backbone, layers, fold=True)
    left = [sum(isinstance(part, nn.BatchNorm2d) for part in module.modules()) for module in (plain, folded)]
    assert left[1] < left[0] / 4
    with torch.inference_mode():
        for ours, theirs in zip(folded(pixels), plain(pixels), strict=True):
            assert ((ours - theirs).norm(dim=1) < 1e-5 * theirs.norm(dim=1)).all()


def test_convolution_with_requested_output_is_not_folded(resnet):
    names = ["layer1.0.conv1", "layer1.0.bn1", "layer2.0.conv1:max", "embedding"]
    layers = resnet.resolve_layers(names)
    pixels = torch.from_numpy(photos(resnet, 2))
    with torch.inference_mode():
        for ours, theirs in zip(
            FeatureModule(resnet, layers, fold=True)(pixels),
            FeatureModule(resnet, layers)(pixels),
            strict=True,
        ):
            assert ((ours - theirs).norm(dim=1) < 1e-5 * theirs.norm(dim=1)).all()


class SharedConvolution(nn.Module):
    """Its convolution's output is read by the batch normalisation and by the sum: folding would be wrong."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.bn.running_mean.fill_(0.5)
        self.bn.running_var.fill_(3.0)

    def forward(self, images):
        convolved = self.conv(images)
        return (convolved + self.bn(convolved)).mean((2, 3))


def test_folding_that_would_change_the_output_is_undone():
    network = SharedConvolution().eval().requires_grad_(requires_grad=False)
    images = torch.randn(2, 3, 16, 16)
    with torch.inference_mode():
        before, state = network(images), fingerprint(network)
        assert fold_batch_norms(network, (16, 16), frozenset()) == 0
        assert fingerprint(network) == state
        torch.testing.assert_close(network(images), before, rtol=0, atol=0)


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


def test_backbone_and_its_device_are_unchanged(resnet, device):
    assert isinstance(resnet, Backbone)
    extract(resnet, photos(resnet, 2), device=device)
    assert {parameter.device.type for parameter in resnet.module.parameters()} == {"cpu"}
    assert sum(isinstance(part, nn.BatchNorm2d) for part in resnet.module.modules()) > 0


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
