"""Where the tests look for a browser, and that `make test-browser` fails where there is none."""

import subprocess
import sys

import pytest

from tests import browser


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A machine without a browser, and the folder in which its programs lie."""
    for name in (*browser._BROWSER_VARIABLES, *browser._DRIVER_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def program(path):
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("name", ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"])
def test_any_of_its_names_will_do(bare, name):
    path = program(bare / name)
    assert browser.find_browser() == path


@pytest.mark.parametrize("name", ["CHROME", "BROWSER_PATH"])
def test_the_environment_goes_first(bare, monkeypatch, name):
    program(bare / "chromium")
    mine = program(bare / "mine")
    monkeypatch.setenv(name, mine)
    assert browser.find_browser() == mine


def test_without_one_the_script_fails_and_says_how_to_get_one(bare):
    def told():
        done = subprocess.run([sys.executable, browser.__file__], capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    code, text = told()
    assert code == 1
    assert text.startswith("no Chromium or Chrome (chromium, chromium-browser, google-chrome, ")
    assert "apt-get install chromium chromium-driver" in text
    program(bare / "google-chrome")
    code, text = told()
    assert code == 1
    assert text.startswith("no chromedriver")
    program(bare / "chromedriver")
    assert told() == (0, "")
