"""Published weights files are known by their SHA-256, and get the transform that belongs to them."""

import dataclasses
import hashlib
from pathlib import Path

import pytest
import torch

from frostline.features.backbones import load_backbone
from frostline.features.backbones.providers.published import Published, recognise
from frostline.features.backbones.providers.registry import find

EARLIER, LATER = "mobilenet_v2.IMAGENET1K_V1", "mobilenet_v2.IMAGENET1K_V2"


@pytest.fixture
def earlier(tmp_path, monkeypatch):
    """A file that stands for the published one of the earlier weights of MobileNetV2."""
    file = tmp_path / "renamed by its owner.pth"
    torch.save(load_backbone(f"torchvision:{LATER}", weights="random:5").module.state_dict(), file)
    source, _ = find(f"torchvision:{LATER}")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    sets = [
        dataclasses.replace(each, url=f"https://host/mobilenet_v2-{digest[:8]}.pth")
        if each.name == EARLIER
        else each
        for each in source.published(LATER)
    ]
    assert [each.name for each in sets] == [EARLIER, LATER]
    monkeypatch.setattr(type(source), "published", lambda _source, _name: sets)
    return file


def test_a_bare_name_takes_the_transform_of_the_file(earlier):
    backbone = load_backbone("torchvision:mobilenet_v2", weights=earlier)
    assert backbone.name == f"torchvision:{EARLIER}"
    assert backbone.transform == load_backbone(f"torchvision:{EARLIER}", weights="random").transform
    assert backbone.transform != load_backbone(f"torchvision:{LATER}", weights="random").transform
    assert backbone.note == f"{earlier} is the published file of {EARLIER}, whose transform is used."
    again = load_backbone(backbone.name, weights=backbone.origin)
    assert (again.weights_sha256, again.transform, again.note) == (
        backbone.weights_sha256,
        backbone.transform,
        "",
    )


def test_a_named_tag_is_kept_and_a_contradiction_told(earlier):
    backbone = load_backbone(f"torchvision:{LATER}", weights=earlier)
    assert backbone.name == f"torchvision:{LATER}"
    assert f"is the published file of {EARLIER}, but is used with the transform of {LATER}" in backbone.note


def test_an_unknown_file_of_a_bare_name_has_the_assumption_told(earlier):
    state = torch.load(earlier, weights_only=True)
    torch.save({key: value * 1.5 for key, value in state.items()}, earlier)
    backbone = load_backbone("torchvision:mobilenet_v2", weights=earlier)
    assert backbone.name == f"torchvision:{LATER}"
    assert backbone.note == (
        f"The transform of {LATER} is assumed for {earlier}; name another tag if it was trained with another one "
        f"({EARLIER})."
    )
    assert load_backbone(f"torchvision:{LATER}", weights=earlier).note == ""
    assert load_backbone("torchvision:mobilenet_v2", weights="random").note == ""


def test_weights_with_one_transform_need_no_note(tmp_path):
    (tmp_path / "file").touch()
    sets = [Published("a.x", "", 1), Published("a.y", "", 1)]
    assert recognise("a.x", sets, tmp_path / "file", named=False) == ("a.x", "")


@pytest.mark.parametrize("name", ["torchvision:resnet50.IMAGENET1K_V2", "timm:resnet50.a1_in1k"])
def test_sources_list_all_published_weights_with_their_files(name):
    source, full = find(name)
    sets = {each.name: each for each in source.published(full)}
    assert full in sets
    older = next(each for each in sets.values() if "resnet50-0676ba61" in each.url)
    assert older.is_digest("0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a")
    assert not older.is_digest("11ad3fa6" + "0" * 56)
    assert older.transform != sets[full].transform
    assert Path(older.url).suffix == ".pth"
