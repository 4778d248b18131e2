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

FOLDERS = {
    "frostline": "frostline",
    "classifiers": "frostline/classifiers",
    "features": "frostline/features",
    "pipeline": "frostline/pipeline",
    "tests/contracts": "frostline/testing",
}
LINKED = {ROOT / target for target in FOLDERS.values() if target != "frostline"}
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
    for folder, target in FOLDERS.items():
        for path in (ROOT / folder).rglob("*"):
            followed = LINKED.intersection(path.parents)  # a link, in some versions of Python
            if path.suffix in SUFFIXES and not path.is_symlink() and not followed:
                found.add(f"{target}/{path.relative_to(ROOT / folder).as_posix()}")
    return found


def test_wheel_holds_one_package_and_all_of_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    packaged = {name for name in names if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in packaged} == {"frostline"}
    assert packaged == sources()


def test_source_distribution_holds_the_same_package(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert sources() <= names


@pytest.mark.parametrize("kind", ["wheel", pytest.param("sdist", marks=pytest.mark.long)])
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
    code = (
        "import frostline.testing as contracts, sys;"
        "print(*[getattr(contracts, name).__module__ for name in contracts.__all__], 'tests' in sys.modules)"
    )
    done = subprocess.run(
        [python, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    *modules, foreign = done.stdout.split()
    assert "frostline.testing.engine" in modules
    assert foreign == "False"
    done = subprocess.run(
        [scripts / "frostline", "--help"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "extract" in done.stdout
