"""The bounds in the metadata are those that ``make test-min`` installs and runs the tests with."""

import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version

from tests import lowest
from tests.helpers.paths import ROOT

TESTED = {
    "anndata",
    "faiss",
    "lancedb",
    "polars",
    "dask",
    "datasets",
    "heif",
    "label-errors",
    "openvino",
    "optuna",
    "parquet",
    "remote",
    "report",
    "tensorboard",
    "testing",
    "umap",
    "zoo",
    "dev",
}


def test_every_bound_of_the_metadata_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = list(project["dependencies"])
    for extra in TESTED:
        lines += [line for line in project["optional-dependencies"][extra] if "frostline[" not in line]
    bounds = dict(re.fullmatch(r"([\w.-]+)[>=]=([\w.]+)", line).groups() for line in lines)
    assert lowest.lowest_versions() == bounds
    assert bounds.keys() >= {"click", "numpy", "torch", "dask", "cleanlab", "openvino", "optuna", "pyarrow"}


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_installs_them():
    command = ["make", "--dry-run", "--always-make", "--directory", ROOT, "test-min"]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    script, install = (
        next(line for line in told.splitlines() if part in line) for part in ("tests/lowest.py", "'.[dev]'")
    )
    assert f"--constraint {script.rpartition('> ')[2]} " in install


def test_what_another_operator_bounds_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "pyproject.toml"
    path.write_text(
        '[project]\nname = "a"\ndependencies = ["b<2"]\n[project.optional-dependencies]\ndev = []\n'
    )
    monkeypatch.setattr(lowest, "PYPROJECT", path)
    with pytest.raises(ValueError, match="b<2: expected a lower bound"):
        lowest.lowest_versions()


def test_a_marker_says_which_python_a_bound_is_for(tmp_path, monkeypatch):
    path = tmp_path / "pyproject.toml"
    path.write_text(
        '[project]\nname = "a"\ndependencies = ["b>=1; python_version < \'3\'", "b>=2; python_version >= \'3\'"]\n'
        '[project.optional-dependencies]\ndev = ["a[c]"]\nc = ["D_e==3.0"]\n'
    )
    monkeypatch.setattr(lowest, "PYPROJECT", path)
    assert lowest.lowest_versions() == {"b": "2", "d-e": "3.0"}


@pytest.mark.skipif(not (Path(sys.prefix) / "lowest.txt").exists(), reason="runs in make test-min")
def test_the_tests_run_with_them():
    bounds = lowest.lowest_versions()
    found = {name: version(name) for name in bounds}
    assert {name: Version(each) for name, each in found.items()} == {
        name: Version(bound) for name, bound in bounds.items()
    }
