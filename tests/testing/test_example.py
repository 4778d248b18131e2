"""The package in docs/design.md meets the contract that it subclasses."""

import os
import re
import subprocess
import sys
import tomllib

import pytest

from tests.helpers.paths import ROOT


@pytest.fixture
def package(tmp_path):
    """The files of the example, installed as pip does it."""
    text = (ROOT / "docs" / "design.md").read_text("utf-8")
    files = dict(re.findall(r"```(?:toml|python)\n# (\S+)\n(.*?)```", text, re.DOTALL))
    assert files.keys() == {"pyproject.toml", "frostline_nearest.py", "test_nearest.py"}
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    project = tomllib.loads(files["pyproject.toml"])["project"]
    metadata = tmp_path / f"frostline_nearest-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    (metadata / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{name} = {place}\n" for name, place in entries.items())
            for group, entries in project["entry-points"].items()
        )
    )
    return tmp_path


def run(package, *options):
    """Run the tests of the package in a process of their own."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_nearest.py", *options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(package), str(ROOT)])}
    return subprocess.run(command, cwd=package, env=environment, capture_output=True, text=True, check=False)


def test_example_passes_its_contract(package):
    done = run(package)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^\d\d passed in", done.stdout, re.MULTILINE)


def test_failure_of_the_contract_shows_the_values_that_were_compared(package):
    head = package / "frostline_nearest.py"
    head.write_text(head.read_text().replace('"power": (1.0, 2.0)', '"power": (2.0, 2.0)'))
    done = run(package, "-k", "candidates_differ")
    assert done.returncode == 1
    assert "assert 1 == 2" in done.stdout
