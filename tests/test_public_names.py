"""`import frostline` offers the public names, and takes nothing that isn't asked for."""

import importlib
import subprocess
import sys

import pytest

from tests.helpers.needs import needs_mypy

PACKAGES = (
    "frostline",
    "frostline.features",
    "frostline.classifiers",
    "frostline.pipeline",
    "frostline.testing",
)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there(package):
    module = importlib.import_module(package)
    assert module.__all__
    for name in module.__all__:
        assert getattr(module, name) is not None
    assert set(module.__all__) <= set(dir(module))


@pytest.mark.parametrize("package", PACKAGES)
def test_misspelt_names_are_errors(package):
    with pytest.raises(AttributeError, match="exctract"):
        importlib.import_module(package).exctract  # noqa: B018


@pytest.mark.parametrize("package", PACKAGES)
def test_import_loads_no_library(package):
    code = (
        f"import sys, {package};"
        "print([name for name in ('torch', 'sklearn', 'scipy', 'numpy', 'h5py', 'click') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@needs_mypy
def test_type_checkers_see_the_real_functions(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import frostline\nreveal_type(frostline.train_head)\nfrostline.exctract\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", str(script)], capture_output=True, text=True, check=False
    )
    assert "TrainResult" in done.stdout
    assert 'Module has no attribute "exctract"' in done.stdout
