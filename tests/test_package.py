"""The wheel and the source distribution: what is in them, and that an installation of each works."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

FOLDERS = {"classifiers", "features", "frostline", "pipeline"}
SUFFIXES = {".py", ".pyi", ".typed", ".css", ".j2", ".js"}


def build(kind, source, folder):
    """Build a distribution with the setuptools that is installed."""
    code = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(folder)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=True
    )
    return folder / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """Built from a copy: setuptools writes beside the sources."""
    copy = tmp_path_factory.mktemp("checkout")
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607  # wherever it is
        cwd=ROOT,
        capture_output=True,
        check=False,
    ).stdout
    if not names:
        pytest.skip("not a git checkout")
    for name in filter(None, names.decode().split("\0")):
        path, target = ROOT / name, copy / name
        if path.is_symlink() or path.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.is_symlink():
                target.symlink_to(path.readlink())
            else:
                target.write_bytes(path.read_bytes())
    return build("sdist", copy, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """Built from the source distribution, as pip does it."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    return build("wheel", source, tmp_path_factory.mktemp("wheel"))


def sources():
    """Names that the package must have, from the folders of the checkout."""
    found = {"frostline/cli.py"}
    for top in FOLDERS:
        for path in (ROOT / top).rglob("*"):
            if path.suffix in SUFFIXES and not path.is_symlink():
                name = path.relative_to(ROOT).as_posix()
                inside = name.split("/")[1] in FOLDERS - {"frostline"}  # a link that was followed
                if top != "frostline" or not inside:
                    found.add(name if top == "frostline" else f"frostline/{name}")
    return found


def test_wheel_holds_one_package_and_all_of_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    packaged = {name for name in names if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in packaged} == {"frostline"}
    assert packaged == sources()


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_installation_in_an_empty_environment_works(kind, request, tmp_path):
    venv.create(tmp_path / "env", with_pip=False)
    scripts = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / Path(sys.executable).name
    install = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PYTHONPATH"] = sysconfig.get_path("purelib")  # the dependencies, without this checkout
    package = request.getfixturevalue(kind)
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), *install, str(package)],
        check=True,
        env=environment,
    )
    code = (
        "import frostline, frostline.cli, frostline.pipeline.demo as demo, pathlib, sys;"
        "print(pathlib.Path(demo.__file__).is_relative_to(sys.prefix), frostline.LinearHead.__name__)"
    )
    done = subprocess.run(
        [python, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "LinearHead"]
    done = subprocess.run(
        [scripts / "frostline", "--help"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "extract" in done.stdout
