"""The folder for caches, by the rules of each system."""

import os
import sys
from pathlib import Path

import pytest

from frostline.system.user_folders import user_cache


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)


def test_linux(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    assert user_cache() == tmp_path / ".cache" / "frostline"


def test_macos(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert user_cache() == tmp_path / "Library" / "Caches" / "frostline"


def test_variable_of_the_user_comes_first(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    assert user_cache() == tmp_path / "mine" / "frostline"


def test_windows(tmp_path, monkeypatch):
    from frostline.system import user_folders

    class Windows:
        name, environ = "nt", os.environ

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(user_folders, "os", Windows)
    assert user_cache() == tmp_path / ".cache" / "frostline"
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "Local"))
    assert user_cache() == tmp_path / "Local" / "frostline"


def test_user_without_home(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(OSError, match="set XDG_CACHE_HOME"):
        user_cache()
