"""Two small networks, and a folder of one's own for what is measured of networks."""

import pytest

from frostline.features.backbones import load_backbone


@pytest.fixture(scope="module")
def resnet():
    return load_backbone("timm:test_resnet", weights="random")


@pytest.fixture(scope="module")
def vit():
    return load_backbone("timm:test_vit", weights="random")


@pytest.fixture
def cache_home(tmp_path, monkeypatch):
    """The file of the measurements."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "frostline" / "backbones.json"
