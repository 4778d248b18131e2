"""Weight files load in every usual container, and what is not weights is refused."""

import pickle
import re

import pytest
import safetensors.torch
import timm
import torch
from torch import nn

from frostline.features.backbones import load_backbone
from frostline.features.backbones.providers.timm import TimmSource
from frostline.features.backbones.weights import load_tensors
from frostline.features.errors import WeightsError
from tests.features.networks import features


def write_torch(state, path):
    torch.save(state, path)


def write_safetensors(state, path):
    safetensors.torch.save_file({key: value.contiguous() for key, value in state.items()}, path)


def other(state):
    """Other weights of the same network."""
    return {key: value + 1 for key, value in state.items()}


WRAPPINGS = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"model": state},
    "ema first": lambda state: {"model": {"fc.bias": torch.zeros(1)}, "model_ema": state},
    "data parallel": lambda state: {f"module.{key}": value for key, value in state.items()},
    "both": lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
    "compiled, then parallel": lambda state: {
        f"module._orig_mod.{key}": value for key, value in state.items()
    },
    "parallel, then compiled": lambda state: {
        f"_orig_mod.module.{key}": value for key, value in state.items()
    },
    "parallel below": lambda state: {key.replace("layer1.", "layer1.module."): v for key, v in state.items()},
    "tutorial": lambda state: {
        "epoch": 5,
        "model_state_dict": state,
        "optimizer_state_dict": {"state": {0: {"exp_avg": state["fc.weight"]}}, "param_groups": []},
        "loss": 0.4,
    },
    "net": lambda state: {"net": state, "acc": 0.9},
    "a name like that of an optimizer": lambda state: {"optimal_weights": state},
    "network in network": lambda state: {"network": {"module": {f"net.{k}": v for k, v in state.items()}}},
    "averaged": lambda state: {"n_averaged": torch.tensor(3)} | {f"module.{k}": v for k, v in state.items()},
    "average beside the trained": lambda state: {"network": other(state), "ema": {"module": state}},
    "lightning": lambda state: {
        "state_dict": {f"model.{key}": value for key, value in state.items()},
        "loops": {},
        "hyper_parameters": {"lr": 0.1},
    },
    "encoder with a head": lambda state: (
        {f"encoder.{key}": value for key, value in state.items()} | {"head.0.weight": torch.zeros(2, 2)}
    ),
    "momentum contrast": lambda state: {
        "state_dict": {f"module.encoder_q.{key}": value for key, value in state.items()}
        | {f"module.encoder_k.{key}": value for key, value in other(state).items()}
        | {"module.queue": torch.zeros(2, 2)}
    },
    "self-distillation": lambda state: {
        "student": {f"module.backbone.{key}": value for key, value in other(state).items()},
        "teacher": {f"backbone.{key}": v for key, v in state.items()} | {"head.mlp.0.weight": torch.zeros(1)},
    },
    "something beside the tensors": lambda state: {**state, "version": 3, "names": ["a"], "none": None},
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
    """Return the input of the module's last linear layer."""
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


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("timm:test_resnet", ["fc.1.weight", "fc.1.bias"]),  # a sequence in place of one layer
        ("timm:test_resnet", ["head.0.weight", "projector.2.running_mean"]),  # other names
        ("torchvision:squeezenet1_1", ["classifier.1.0.weight", "classifier.4.bias"]),
        (
            "torchvision:efficientnet_b0",
            ["classifier.weight", "classifier.bias"],
        ),  # one layer in place of a sequence
    ],
)
def test_another_classifier_does_not_matter(tmp_path, name, layers):
    whole = load_backbone(name, weights="random:5")
    (classifier,) = whole.network.readout.classifier(whole.module)
    trunk = {k: v for k, v in whole.module.state_dict().items() if not k.startswith(f"{classifier}.")}
    write_torch(trunk, tmp_path / "trunk.pth")
    write_torch(trunk | {key: torch.zeros(7) for key in layers}, tmp_path / "other.pth")
    bare, other = (load_backbone(name, weights=tmp_path / f"{file}.pth") for file in ("trunk", "other"))
    assert other.weights_sha256 == bare.weights_sha256
    assert "logits" not in other.layers()
    assert (bare.note, all(key in other.note for key in layers)) == ("", True)


@pytest.mark.parametrize(
    "key", ["layer1.2.conv1.weight", "layer1.0.se.fc1.weight", "reg_token", "norm.weight"]
)
def test_a_part_that_the_network_lacks_is_refused(trained, tmp_path, key):
    write_torch({**trained.module.state_dict(), key: torch.zeros(1)}, tmp_path / "more.pth")
    with pytest.raises(WeightsError, match=rf"1 unexpected: {key}"):
        load_backbone("timm:test_resnet", weights=tmp_path / "more.pth")


def test_a_layer_between_embedding_and_classifier_is_refused(tmp_path):
    state = load_backbone("torchvision:mobilenet_v3_small", weights="random").module.state_dict()
    write_torch({**state, "classifier.1.running_mean": torch.zeros(1024)}, tmp_path / "more.pth")
    with pytest.raises(WeightsError, match=r"1 unexpected: classifier\.1\.running_mean"):
        load_backbone("torchvision:mobilenet_v3_small", weights=tmp_path / "more.pth")


def test_two_networks_of_equal_standing_are_refused(trained, tmp_path):
    state = trained.module.state_dict()
    both = {f"{side}.{k}": v for side, each in (("a", state), ("b", other(state))) for k, v in each.items()}
    write_torch(both, tmp_path / "two.pth")
    with pytest.raises(WeightsError, match=r"two\.pth: several networks fit, under a\., b\.; expected one"):
        load_backbone("timm:test_resnet", weights=tmp_path / "two.pth")


def test_what_was_stripped_and_left_out_is_told(trained, tmp_path):
    state = {f"module.backbone.{key}": value for key, value in trained.module.state_dict().items()}
    write_torch(
        {"state_dict": {**state, "module.other": torch.zeros(1)}, "epoch": 1}, tmp_path / "weights.pth"
    )
    backbone = load_backbone("timm:test_resnet", weights=tmp_path / "weights.pth")
    assert backbone.note == (
        f"Weights {tmp_path}/weights.pth: read under 'state_dict.backbone.'; without 'module.' in names; "
        "1 tensors beside them not used."
    )
    resized = backbone.with_transform(backbone.transform.at_size(96))
    assert (resized.note, resized.origin) == (backbone.note, str(tmp_path / "weights.pth"))


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
        (b"\1\2\3\4\5\6\7\0\1", "neither a safetensors file"),
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
        ({"fc.bias": 3}, "'fc.bias' is a int, and no other entry holds tensors"),
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
