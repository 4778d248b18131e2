"""Options are declared once; what is derived from a declaration agrees with it."""

import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

import frostline
from frostline.errors import OptionError
from frostline.options import Options, documented, list_options, option, seed_option
from frostline.pipeline.options.extraction import ExtractOptions
from frostline.pipeline.options.stage import StageOptions, stage


@dataclass(frozen=True, kw_only=True)
class Toy(StageOptions):
    mode: Literal["a", "b"] = option("a", "Mode.")
    count: int | None = option(None, "Number.", low=1, unset="all of them")
    share: float = option(0.5, "Share, see --count.", low=0, below=1)
    rate: float = option(1.0, "Rate.", above=0)
    names: tuple[str, ...] = option(("x",), "Names.", flag="name")
    parts: tuple[float, float] = option((0.5, 0.5), "Parts.", low=0, high=1)
    out: str | Path | None = option(None, "File to write.", setting=False)
    again: bool = option(False, "Repeat.")
    seed: int = seed_option("Seed.")


@stage(Toy)
def toy(data: str, options: Toy) -> tuple[str, Toy]:
    """Return what was passed.

    Args:
        data: A text.
        options: Options of the
            toy.

    Raises:
        OptionError: An option is not valid.
    """
    return data, options


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("mode", "c", "one of a, b"),
        ("mode", None, "one of a, b"),
        ("count", 0, "a whole number, at least 1, or None"),
        ("count", 1.5, "a whole number"),
        ("count", True, "a whole number"),
        ("count", "3", "a whole number"),
        ("share", 1, "a number, at least 0 and below 1"),
        ("share", float("nan"), "a number"),
        ("rate", 0, "a number, above 0"),
        ("rate", float("inf"), "a number, above 0"),
        ("names", 1, "a list of values, each a text"),
        ("names", [1], "a list of values, each a text"),
        ("parts", (0.1,), "2 values, each a number, 0 to 1"),
        ("parts", (0.1, 2), "2 values, each a number, 0 to 1"),
        ("out", 3, "a path, or None"),
        ("again", 1, "True or False"),
        ("seed", -1, "a whole number, 0 to 4294967295"),
        ("seed", 2**32, "a whole number, 0 to 4294967295"),
    ],
)
def test_invalid_values_are_refused_with_the_valid_ones(name, value, expected):
    with pytest.raises(OptionError, match=re.escape(f"{name}: got {value!r}, expected {expected}")):
        Toy(**{name: value})


def test_values_are_converted_to_the_declared_types():
    made = Toy(count=np.int64(3), share=0, names=["u", "v"], parts=[0, 1], out=Path("file"))
    assert made == Toy(count=3, share=0.0, names=("u", "v"), parts=(0.0, 1.0), out=Path("file"))
    assert Toy(names="u").names == ("u",)
    assert [type(value) for value in (made.count, made.share)] == [int, float]


def test_an_option_class_can_raise_an_error_of_its_own():
    class OwnError(OptionError):
        pass

    @dataclass(frozen=True)
    class Own(Options):
        error = OwnError
        count: int = option(1, "Number.", low=1)

    with pytest.raises(OwnError, match="count: got 0"):
        Own(count=0)


def test_changes_and_settings_of_options():
    made = Toy(count=3, out="file")
    assert made.changes() == {"count": 3, "out": "file"}
    assert "out" not in made.settings()
    assert made.settings()["count"] == 3
    assert Toy.of(made, count=4).changes() == {"count": 4, "out": "file"}


def test_a_stage_takes_its_options_as_keyword_arguments():
    assert toy("x", count=2, mode="b") == ("x", Toy(count=2, mode="b"))
    assert toy(data="x") == ("x", Toy())
    with pytest.raises(TypeError, match=r"toy\(\) has no argument 'cuont' \(did you mean 'count'"):
        toy("x", cuont=2)
    with pytest.raises(TypeError, match="missing a required argument: 'data'"):
        toy(count=2)
    with pytest.raises(OptionError, match="count: got 0"):
        toy("x", count=0)


def test_signature_and_docstring_of_a_stage_list_every_option():
    names = list(inspect.signature(toy).parameters)
    assert names == ["data", *(each.name for each in Toy.declared()), "report"]
    assert inspect.signature(toy).parameters["share"].default == 0.5
    entries = re.findall(
        r"^ {8}(\w+): ", inspect.cleandoc(toy.__doc__).replace("\n    ", "\n        "), re.MULTILINE
    )
    assert [name for name in entries if name != "OptionError"] == names
    assert "share: Share, see `count` (at least 0 and below 1)." in documented(Toy)
    assert "count: Number (at least 1); by default all of them." in documented(Toy)


@pytest.mark.parametrize("indent", ["    ", ""])  # Python 3.13 removes the indentation of docstrings
def test_a_class_lists_its_options_in_its_docstring(indent):
    text = f"Toys.\n\n{indent}Args:\n{indent}    options: All.\n{indent}        Of them.\n{indent}Raises:\n"
    listed = list_options(text, Toy)
    assert f"{indent}    count: Number (at least 1); by default all of them.\n" in listed
    assert "Of them" not in listed
    assert "options:" not in listed
    assert listed.endswith(f"{indent}Raises:\n")


def test_recipe_documents_its_settings():
    assert "see: frostline backbones NAME --stages" in frostline.Recipe.__doc__
    assert all(f"{each.name}: " in frostline.Recipe.__doc__ for each in frostline.Recipe.declared())
    assert "options:" not in frostline.Recipe.__doc__


def test_extract_documents_its_options():
    names = set(inspect.signature(frostline.extract).parameters)
    assert {each.name for each in ExtractOptions.declared()} | {"data", "report"} == names
    assert "min_cosine: " in frostline.extract.__doc__
