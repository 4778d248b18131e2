"""Weights files whose tensors are not plain numbers, or whose headers lie."""

import json
import struct

import pytest
import torch

from frostline.features.backbones.weights import load_file, read_weights
from frostline.features.errors import WeightsError


def saved(path, content):
    torch.save(content, path)
    return path


def cyclic():
    found = {"weight": torch.zeros(2)}
    found["self"] = found
    return found


def deep():
    found = {"weight": torch.zeros(2)}
    for _ in range(100):
        found = {"a": found}
    return found


WRONG = {
    "a shape without values": ({"weight": torch.empty(2, 2, device="meta")}, "device 'meta'"),
    "one name as text and number": ({1: torch.zeros(2), "1": torch.ones(2)}, "two tensors have the name '1'"),
    "a container that holds itself": (cyclic(), "nested more than 32 levels"),
    "deep containers": (deep(), "nested more than 32 levels"),
    "no tensors": ({1: 2}, "1 is a int, and no other entry holds tensors"),
    "a list": ([torch.zeros(2)], "a list; expected a state dict"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_torch_file_of_other_things_is_refused(tmp_path, name):
    content, message = WRONG[name]
    with pytest.raises(WeightsError, match=message):
        read_weights(saved(tmp_path / "w.pth", content))


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_integer_keys_are_names_and_quantised_tensors_are_numbers(tmp_path):
    numbers = torch.tensor([[0.5, 1.0], [-0.5, 0.0]])
    quantised = torch.quantize_per_tensor(numbers, 0.5, 0, torch.qint8)
    found = read_weights(saved(tmp_path / "w.pth", {0: {"weight": quantised}}))
    assert [*found] == ["0.weight"]
    assert torch.equal(found["0.weight"], numbers)
    module = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False))
    load_file(module, tmp_path / "w.pth")
    assert torch.equal(module[0].weight, numbers)


def safetensors(header, data=b""):
    text = json.dumps(header).encode() if isinstance(header, dict) else header
    return struct.pack("<Q", len(text)) + text + data


HEADERS = {
    "longer than the file": struct.pack("<Q", 1 << 60) + b"{}",
    "not JSON": safetensors(b"{nothing"),
    "deep": safetensors(b'{"a":' * 10_000),
    "8 TiB": safetensors({"a": {"dtype": "F64", "shape": [1 << 40], "data_offsets": [0, 1 << 43]}}),
    "a shape of another size": safetensors(
        {"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4]}}, bytes(4)
    ),
    "an unknown dtype": safetensors({"a": {"dtype": "F3", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
    "a negative shape": safetensors({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, bytes(4)),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_safetensors_header_that_lies_is_refused(tmp_path, name):
    path = tmp_path / "w.safetensors"
    path.write_bytes(HEADERS[name])
    with pytest.raises(WeightsError, match=r"weights .*w\.safetensors"):
        read_weights(path)
