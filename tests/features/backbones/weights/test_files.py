"""Files that hold no weights are named for what they are, and numbers that are no weights are refused."""

import gzip
import io
import json
import os
import pickle
import shlex
import socket
import sys
import tarfile
import zipfile

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file
from torch import nn

from frostline.features.backbones import load_backbone
from frostline.features.errors import WeightsError

NAME = "timm:test_resnet"


@pytest.fixture(scope="module")
def state():
    return dict(load_backbone(NAME, weights="random:5").module.state_dict())


def refused(path, match):
    with pytest.raises(WeightsError, match=match) as found:
        load_backbone(NAME, weights=path)
    assert str(path) in str(found.value)
    return str(found.value)


def zipped(names):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
    return data.getvalue()


def tarred():
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights.pth"))
    return data.getvalue()


def hdf5():
    data = io.BytesIO()
    with h5py.File(data, "w") as file:
        file["model_weights/conv/kernel"] = np.zeros(3)
    return data.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab\nsize 12345\n"
CONTENTS = {
    "empty": (b"", "got empty"),
    "pointer": (LFS, "a pointer of Git LFS.*git lfs pull"),
    "page": (b"\n<!DOCTYPE html>\n<html><body>Rate limited</body></html>", "an HTML page"),
    "page without doctype": (b"<html>rate limited</html>", "an HTML page"),
    "message": (b"404: Not Found", "a text, '404: Not Found'"),
    "index": (json.dumps({"weight_map": {}}).encode(), "index of weights in several files"),
    "keras": (hdf5(), "an HDF5 file, as Keras"),
    "zip": (zipped(["a/resnet.pth", "a/readme.txt"]), r"a zip archive of 2 files \(a/resnet\.pth, a/readme"),
    "keras 3": (zipped(["config.json", "model.weights.h5"]), "a network of Keras"),
    "npz": (zipped(["a.npy", "b.npy"]), "an archive of NumPy arrays"),
    "gzip": (gzip.compress(b"weights"), "a gzip archive; unpack it"),
    "tar": (tarred(), "a tar archive; unpack it"),
    "saved model": (b"\x08\x01\x12\xaa\xff\x03\x0a", "a SavedModel of TensorFlow"),
    "onnx": (b"\x08\x08\x12\x07pytorch\x1a\x05\xff2.1.0:", "an ONNX network"),
    "lite": (b"\x1c\0\0\0TFL3\x14\0\x20", "TensorFlow Lite"),
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_a_file_of_another_kind_is_named(tmp_path, kind):
    content, match = CONTENTS[kind]
    (tmp_path / "weights.pth").write_bytes(content)
    refused(tmp_path / "weights.pth", match)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("net.onnx", "an ONNX network"),
        ("net.pb", "of TensorFlow"),
        ("net.ckpt.index", "a checkpoint of TensorFlow"),
        ("net.ckpt.data-00000-of-00001", "a checkpoint of TensorFlow"),
        ("net.msgpack", "of Flax"),
    ],
)
def test_a_binary_file_is_named_by_its_suffix(tmp_path, name, match):
    (tmp_path / name).write_bytes(b"\xde\xad\xbe\xef" * 8)
    refused(tmp_path / name, match)


def test_the_common_name_of_a_tensorflow_checkpoint_is_known(tmp_path):
    (tmp_path / "net.ckpt.index").write_bytes(b"\0")
    refused(tmp_path / "net.ckpt", "a checkpoint of TensorFlow")


def test_folders_are_named_with_the_weights_in_them(tmp_path):
    (tmp_path / "model.safetensors").touch()
    refused(tmp_path, r"a folder; pass a file in it: model\.safetensors")
    (tmp_path / "saved_model.pb").touch()
    refused(tmp_path, "a SavedModel of TensorFlow")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_sockets_and_devices_are_never_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for a writer
    refused(tmp_path / "pipe", "a named pipe")
    refused("/dev/zero", "a device")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        refused(tmp_path / "socket", "a socket")


def run_recipe(message, folder, monkeypatch):
    """Run the program of the command at the end of a message in a folder; return the file that it writes."""
    python, flag, program, *arguments = shlex.split(message[message.index("python -c") :])
    assert (python, flag) == ("python", "-c")
    monkeypatch.setattr(sys, "argv", ["-c", *arguments])
    monkeypatch.chdir(folder)
    exec(program, {})  # noqa: S102  # what the user is told to run
    return folder / "weights.safetensors"


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_a_torchscript_program_gets_a_recipe_that_works(tmp_path, monkeypatch):
    module = load_backbone("torchvision:resnet18", weights="random:5").module
    traced = torch.jit.trace(module, torch.zeros(1, 3, 32, 32))
    traced.save(tmp_path / "a program.pt")
    with pytest.raises(WeightsError, match="a TorchScript program, which holds code") as found:
        load_backbone("torchvision:resnet18", weights=tmp_path / "a program.pt")
    written = run_recipe(str(found.value), tmp_path, monkeypatch)
    again = load_backbone("torchvision:resnet18", weights=written)
    assert all(
        torch.equal(value, module.state_dict()[key]) for key, value in again.module.state_dict().items()
    )


class Settings:
    """An object of a training script, which reading the file would import."""


class Whole(nn.Module):
    """A network that a training script pickled as a whole."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone


REFUSED = {
    "namespace beside": lambda net: {"model_state_dict": net.state_dict(), "args": Settings()},
    "wrapped": lambda net: {
        "state_dict": {f"module.{key}": value for key, value in net.state_dict().items()},
        "best": np.float64(0.5),
    },
    "bare, with an object": lambda net: {**net.state_dict(), "args": Settings()},
    "arrays": lambda net: {"params": {key: value.numpy() for key, value in net.state_dict().items()}},
    "module": lambda net: {"model": net, "optimizer": {"state": {0: {"exp_avg": net.fc.weight}}}},
    "module of a module": Whole,
}


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_of_arrays_gets_a_recipe_that_works(tmp_path, monkeypatch, protocol):
    trained = load_backbone(NAME, weights="random:5")
    arrays = {key: value.numpy() for key, value in trained.module.state_dict().items()}
    (tmp_path / "weights.pkl").write_bytes(pickle.dumps({"model": arrays, "author": "a name"}, protocol))
    message = refused(tmp_path / "weights.pkl", "holds Python objects besides tensors")
    again = load_backbone(NAME, weights=run_recipe(message, tmp_path, monkeypatch))
    assert again.weights_sha256 == trained.weights_sha256


def test_a_refused_file_of_early_torch_gets_a_recipe_that_works(tmp_path, monkeypatch):
    trained = load_backbone(NAME, weights="random:5")
    held = {"state_dict": trained.module.state_dict(), "args": Settings()}
    torch.save(held, tmp_path / "early.pth", _use_new_zipfile_serialization=False)
    message = refused(tmp_path / "early.pth", "holds Python objects besides tensors")
    again = load_backbone(NAME, weights=run_recipe(message, tmp_path, monkeypatch))
    assert again.weights_sha256 == trained.weights_sha256


@pytest.mark.parametrize("layout", REFUSED)
def test_what_is_refused_gets_a_recipe_for_its_own_layout(tmp_path, layout, monkeypatch):
    trained = load_backbone(NAME, weights="random:5")
    torch.save(REFUSED[layout](trained.module), tmp_path / "it's a checkpoint.pth")
    message = refused(tmp_path / "it's a checkpoint.pth", "holds Python objects besides tensors")
    again = load_backbone(NAME, weights=run_recipe(message, tmp_path, monkeypatch))
    assert again.weights_sha256 == trained.weights_sha256


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float64]
)
@pytest.mark.parametrize("write", [torch.save, save_file])
def test_every_floating_point_format_is_read(tmp_path, state, dtype, write):
    narrow = {key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()}
    write(narrow, tmp_path / "weights")
    loaded = load_backbone(NAME, weights=tmp_path / "weights").module.state_dict()
    assert all(value.dtype == state[key].dtype for key, value in loaded.items())
    assert all(torch.equal(value, narrow[key].to(state[key].dtype)) for key, value in loaded.items())


@pytest.mark.filterwarnings("ignore:.*quantize:UserWarning")
def test_quantised_tensors_with_their_scale_are_read(tmp_path, state):
    quantised = torch.quantize_per_tensor(state["conv1.0.weight"], 0.01, 0, torch.qint8)
    torch.save({**state, "conv1.0.weight": quantised}, tmp_path / "weights")
    loaded = load_backbone(NAME, weights=tmp_path / "weights").module.state_dict()
    assert torch.equal(loaded["conv1.0.weight"], quantised.dequantize())


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda tensor: tensor.to(torch.int8), r"holds integers \(torch\.int8\) without their scale"),
        (lambda tensor: tensor > 0, "holds integers"),
        (lambda tensor: tensor.to(torch.complex64), "holds complex numbers"),
        (lambda tensor: tensor.to_sparse(), "is a sparse tensor"),
        (
            lambda tensor: tensor.index_fill(0, torch.tensor(0), torch.nan),
            r"\d+ of \d+ numbers are NaN or infinite",
        ),
        (lambda tensor: tensor.double() * 1e300, "NaN or infinite"),
    ],
)
def test_numbers_that_are_no_weights_are_refused(tmp_path, state, change, match):
    torch.save({**state, "conv1.0.weight": change(state["conv1.0.weight"])}, tmp_path / "weights.pth")
    refused(tmp_path / "weights.pth", rf"conv1\.0\.weight.*{match}")


def test_numbers_of_an_unused_classifier_are_not_checked(tmp_path, state):
    torch.save({**state, "fc.weight": torch.full((3, 2), torch.nan)}, tmp_path / "weights.pth")
    assert "logits" not in load_backbone(NAME, weights=tmp_path / "weights.pth").layers()


class TestDamage:
    def test_every_part_of_a_torch_file_has_its_checksum(self, tmp_path, state):
        torch.save(state, tmp_path / "weights.pth")
        data = (tmp_path / "weights.pth").read_bytes()
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            part = max(archive.infolist(), key=lambda record: record.file_size)
        middle = data.index(part.filename.encode()) + 200
        for hole in (bytes(64), bytes([data[middle] ^ 1])):
            changed = data[:middle] + hole + data[middle + len(hole) :]
            assert changed != data
            (tmp_path / "damaged.pth").write_bytes(changed)
            refused(
                tmp_path / "damaged.pth",
                rf"a damaged torch file \({part.filename} doesn't have its checksum\)",
            )

    def test_damage_to_the_pickle_is_not_called_python_objects(self, tmp_path, state):
        torch.save(state, tmp_path / "weights.pth")
        data = (tmp_path / "weights.pth").read_bytes()
        at = data.index(b"_rebuild_tensor_v2")
        (tmp_path / "weights.pth").write_bytes(data[:at] + b"X" + data[at + 1 :])
        refused(tmp_path / "weights.pth", r"a damaged torch file \(.*data\.pkl doesn't have its checksum\)")

    def test_a_torch_file_without_checksums_is_read(self, tmp_path, state):
        torch.serialization.set_crc32_options(False)
        try:
            torch.save(state, tmp_path / "weights.pth")
        finally:
            torch.serialization.set_crc32_options(True)
        loaded = load_backbone(NAME, weights=tmp_path / "weights.pth").module.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in loaded.items())

    @pytest.mark.parametrize("share", [0.3, 0.99])
    def test_a_cut_torch_file(self, tmp_path, state, share):
        torch.save(state, tmp_path / "weights.pth")
        data = (tmp_path / "weights.pth").read_bytes()
        (tmp_path / "weights.pth").write_bytes(data[: int(share * len(data))])
        refused(tmp_path / "weights.pth", "a damaged torch file")


def save_early(state, path):
    torch.save(state, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("write", [torch.save, save_early, save_file])
@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt", "weights.bin", "weights"])
def test_the_content_counts_whatever_the_name(tmp_path, state, write, name):
    write(state, str(tmp_path / "written"))
    (tmp_path / "written").rename(tmp_path / name)
    loaded = load_backbone(NAME, weights=tmp_path / name).module.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in loaded.items())


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt"])
def test_safetensors_whose_length_looks_like_a_pickle(tmp_path, state, name):
    notes = next(
        notes
        for notes in ("x" * count for count in range(256))
        if save(state, {"note": notes})[:1] == b"\x80"
    )
    (tmp_path / name).write_bytes(save(state, {"note": notes}))
    loaded = load_backbone(NAME, weights=tmp_path / name).module.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in loaded.items())


class TestUnusualTensors:
    KEY = "conv1.0.weight"

    def write(self, state, folder, changed, key=KEY):
        torch.save({**state, key: changed}, folder / "weights.pth")
        return folder / "weights.pth"

    def test_without_values(self, tmp_path, state):
        path = self.write(state, tmp_path, state[self.KEY].to("meta"))
        refused(path, r"conv1\.0\.weight has a shape but no values \(device 'meta'\)")

    @pytest.mark.filterwarnings("ignore:.*nested tensors:UserWarning")
    @pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
    def test_nested(self, tmp_path, state, layout):
        nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=layout)
        refused(self.write(state, tmp_path, nested), r"conv1\.0\.weight is nested")

    def test_repeated_without_end(self, tmp_path, state):
        path = self.write(state, tmp_path, torch.ones(1).expand(10**6, 10**6))
        refused(path, r"conv1\.0\.weight has 1,000,000,000,000 numbers in a file of [\d,]+ bytes")

    def test_repeated_as_often_as_the_network_needs(self, tmp_path, state):
        path = self.write(state, tmp_path, torch.ones(1).expand(state[self.KEY].shape))
        assert (load_backbone(NAME, weights=path).module.state_dict()[self.KEY] == 1).all()

    @pytest.mark.parametrize("key", ["bn1.running_var", "layer1.0.bn1.running_var"])
    def test_negative_variance(self, tmp_path, state, key):
        changed = state[key].clone()
        changed[1] = -0.5
        refused(self.write(state, tmp_path, changed, key), rf"{key}: 1 of \d+ variances are negative")

    def test_variance_of_zero(self, tmp_path, state):
        path = self.write(state, tmp_path, torch.zeros_like(state["bn1.running_var"]), "bn1.running_var")
        assert not load_backbone(NAME, weights=path).module.state_dict()["bn1.running_var"].any()

    def test_a_name_as_text_and_as_number(self, tmp_path, state):
        torch.save({**state, 1: torch.ones(2), "1": torch.zeros(2)}, tmp_path / "weights.pth")
        refused(tmp_path / "weights.pth", "two tensors have the name '1'")

    def test_containers_in_themselves(self, tmp_path, state):
        deep = dict(state)
        for _ in range(100):
            deep = {"model": deep}
        torch.save(deep, tmp_path / "weights.pth")
        refused(tmp_path / "weights.pth", "nested more than 32 levels deep")

    @pytest.mark.skipif(not hasattr(torch, "float4_e2m1fn_x2"), reason="needs the type")
    def test_floating_point_that_torch_cannot_convert(self, tmp_path, state):
        shape = state[self.KEY].shape
        path = self.write(state, tmp_path, torch.ones(shape, dtype=torch.uint8).view(torch.float4_e2m1fn_x2))
        refused(path, r"conv1\.0\.weight has numbers of the type torch\.float4_e2m1fn_x2")

    @pytest.mark.filterwarnings("ignore:.*quantize:UserWarning")
    def test_quantised_by_channel(self, tmp_path, state):
        weight = state[self.KEY]
        scales, zeros = torch.full((len(weight),), 0.02), torch.zeros(len(weight))
        quantised = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
        path = self.write(state, tmp_path, quantised)
        loaded = load_backbone(NAME, weights=path).module.state_dict()
        assert torch.equal(loaded[self.KEY], quantised.dequantize())

    def test_parameters_and_views(self, tmp_path, state):
        held = {
            key: nn.Parameter(value) if value.is_floating_point() else value for key, value in state.items()
        }
        held[self.KEY] = torch._neg_view(-state[self.KEY]).transpose(0, 1).contiguous().transpose(0, 1)
        torch.save(held, tmp_path / "weights.pth")
        loaded = load_backbone(NAME, weights=tmp_path / "weights.pth").module.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in loaded.items())
