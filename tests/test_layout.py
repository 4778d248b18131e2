"""Rules of the layout that no linter checks; docs/design.md describes them."""

import pytest

from tests.helpers.paths import ROOT

TOPS = (
    "classifiers",
    "features",
    "pipeline",
    "frostline/commands",
    "frostline/numerics",
    "frostline/system",
    "tests",
)
FOLDERS = sorted({path.parent for top in TOPS for path in (ROOT / top).rglob("*.py")})


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(ROOT).as_posix())
def test_folder_is_a_package_of_at_most_twelve_modules(folder):
    modules = {path.name for path in folder.glob("*.py")}
    assert "__init__.py" in modules
    assert len(modules - {"__init__.py"}) <= 12


@pytest.mark.parametrize(
    ("name", "place"),
    [
        *((name, name) for name in ("classifiers", "features", "pipeline", "cli.py")),
        ("testing", "tests/contracts"),
    ],
)
def test_package_links_to_the_top_level(name, place):
    link = ROOT / "frostline" / name
    assert link.is_symlink()
    assert link.resolve() == ROOT / place
