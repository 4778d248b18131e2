"""The list of backbones and what each costs."""

import json

import pytest
import torch

from frostline.features.backbones import catalog as catalog_module
from frostline.features.backbones import count_backbones, describe, list_backbones
from frostline.features.errors import BackboneError


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
