"""Registries: built-in implementations and those that other packages declare."""

import subprocess
import sys
import tomllib

import pytest

from frostline import registry as registries
from frostline.classifiers import HEADS
from frostline.features.backbones.providers.registry import SOURCES as BACKBONE_SOURCES
from frostline.features.engines import ENGINES
from frostline.features.images.decoders import DECODERS
from frostline.features.sources.opening import SOURCES as IMAGE_SOURCES
from frostline.pipeline.exporting.exporters import EXPORTERS
from frostline.registry import Entry, Registry, near
from tests.helpers.paths import ROOT

GROUP = "frostline.shapes"


class ShapeError(ValueError):
    """An error type of the caller's own."""


class Shape:
    """What the registry holds."""

    def __init__(self, corners):
        self.corners = corners


TRIANGLE = Shape(3)
SQUARE = Shape(4)
PENTAGON = Shape(5)


def __getattr__(name):
    if name == "BROKEN":
        raise ZeroDivisionError("at import")
    raise AttributeError(name)


@pytest.fixture
def shapes():
    return Registry(
        "shape",
        {
            "square": Entry(f"{__name__}:SQUARE"),
            "circle": Entry(f"{__name__}:TRIANGLE", needs="no_such_package", extra="round"),
            "lost": Entry("no_such_module:SHAPE"),
        },
        group=GROUP,
        adopt=lambda _name, found: found if isinstance(found, Shape) else None,
        expected="a Shape",
        error=ShapeError,
        also="any polygon by its number of corners",
    )


def test_builtin_names_come_first_in_the_order_of_the_table(shapes, declare):
    declare(GROUP, triangle=f"{__name__}:TRIANGLE", pentagon=f"{__name__}:PENTAGON")
    assert list(shapes) == ["square", "circle", "lost", "pentagon", "triangle"]
    assert shapes.builtin == ("square", "circle", "lost")
    assert "square" in shapes
    assert "pentagon" in shapes
    assert "hexagon" not in shapes


def test_name_returns_its_implementation(shapes, declare):
    assert shapes["square"] is SQUARE
    declare(GROUP, pentagon=f"{__name__}:PENTAGON")
    assert shapes["pentagon"] is PENTAGON
    assert shapes.package("pentagon") == {"brought": "1.5"}
    assert shapes.package("square") == {}


def test_nothing_is_imported_before_it_is_asked_for(shapes, declare):
    declare(GROUP, joke="this:SHAPE")
    assert "joke" in list(shapes)
    assert "this" not in sys.modules


def test_unknown_name_lists_similar_and_all_names(shapes, declare):
    declare(GROUP, pentagon=f"{__name__}:PENTAGON")
    message = (
        r"^no shape 'pentagn' \(did you mean 'pentagon'\?\); expected one of square, circle, lost, pentagon, or any polygon "
        "by its number of corners$"
    )
    with pytest.raises(ShapeError, match=message):
        shapes["pentagn"]
    with pytest.raises(ShapeError, match=r"^no shape 'xyz'; expected one of"):
        shapes["xyz"]


def test_a_missing_extra_is_named(shapes, monkeypatch):
    with pytest.raises(
        ShapeError,
        match=r"^shape 'circle' needs no_such_package, which is not installed: pip install 'frostline\[round\]'$",
    ):
        shapes["circle"]
    assert shapes.missing("square") == ""
    assert shapes.load("circle") is TRIANGLE  # it can still be described
    monkeypatch.setattr(registries, "find_spec", lambda name: name)
    assert shapes.missing("circle") == ""
    assert shapes["circle"] is TRIANGLE


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("no_such_module:SHAPE", "can't be imported: ModuleNotFoundError: No module named 'no_such_module'"),
        (f"{__name__}:NOTHING", "can't be imported: AttributeError: NOTHING"),
        (f"{__name__}:BROKEN", "can't be imported: ZeroDivisionError: at import"),
        (f"{__name__}:GROUP", "is 'frostline.shapes'; expected a Shape"),
    ],
)
def test_a_broken_declaration_is_named_with_its_place(shapes, declare, place, message):
    declare(GROUP, hexagon=place)
    with pytest.raises(ShapeError) as raised:
        shapes["hexagon"]
    assert str(raised.value) == f"shape 'hexagon' ({place}) {message}"
    assert shapes["square"] is SQUARE


def test_import_error_of_builtin_is_not_wrapped(shapes):
    with pytest.raises(ModuleNotFoundError):
        shapes["lost"]


def test_a_name_declared_twice_is_refused_with_both_places(shapes, declare):
    declare(GROUP, square=f"{__name__}:PENTAGON")
    places = rf"{__name__}:SQUARE, {__name__}:PENTAGON of brought"
    with pytest.raises(
        ShapeError, match=rf"^shape 'square' is declared more than once: {places}\. Uninstall"
    ):
        shapes["square"]
    assert list(shapes).count("square") == 1
    declare(GROUP, "first", pentagon=f"{__name__}:PENTAGON")
    declare(GROUP, "second", pentagon=f"{__name__}:TRIANGLE")
    with pytest.raises(ShapeError, match=r"of (first|second), .* of (first|second)\. Uninstall"):
        shapes["pentagon"]


def test_extras_that_the_tables_name_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {
        entry.extra
        for table in (HEADS, ENGINES, DECODERS, BACKBONE_SOURCES, IMAGE_SOURCES, EXPORTERS)
        for entry in table.entries.values()
        if entry.needs
    }
    assert named == {"openvino", "open-clip", "parquet", "lancedb"} <= project["optional-dependencies"].keys()


def test_near_formats_similar_names():
    assert near("liner", ["linear", "mlp"]) == " (did you mean 'linear'?)"
    assert near("zzz", ["linear", "mlp"]) == ""


def test_registry_module_imports_no_frostline_module():
    code = (
        "import sys; before = set(sys.modules); import frostline.registry;"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "print(sorted(new - sys.stdlib_module_names), [n for n in sys.modules if n.startswith('frostline.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['frostline', 'lazy_loader'] ['frostline.registry']"
