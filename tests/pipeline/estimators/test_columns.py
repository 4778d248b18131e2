"""Which inputs are one column of images, and what is said of others."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.sparse import csr_matrix

from frostline.features.errors import SourceError
from frostline.pipeline.estimators.columns import image_column
from frostline.testing import encode, photo
from tests.helpers.needs import needs_polars, needs_pyarrow

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8)
COLOUR = np.arange(144, dtype=np.uint8).reshape(6, 8, 3)
FILE = encode(photo(8, 6, seed=1))


def files(column):
    return [column.read(row)[0] for row in range(len(column))]


@pytest.mark.parametrize(
    "wrap",
    [
        list,
        tuple,
        lambda items: np.array(items, object),
        lambda items: np.array(items, object)[:, None],
        lambda items: pd.Series(items, index=range(7, 7 + len(items))),
        lambda items: pd.DataFrame({"image": pd.Series(items)}),
        lambda items: pd.DataFrame({"image": pd.Series(items)}).set_index(np.array([3, 4])),
    ],
)
def test_containers_hold_the_same_images(wrap, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(FILE)
    column = image_column(wrap([str(path), FILE]))
    assert files(column) == [FILE, FILE]
    assert column.name(0) == f"row 0 ({path})"
    assert column.name(1) == "row 1"


@needs_polars
@pytest.mark.parametrize("frame", [False, True])
def test_polars_columns_hold_paths_and_bytes(frame):
    import polars as pl

    for items in ([b"one", b"two"], ["a.png", "b.png"]):
        series = pl.Series("image", items)
        assert image_column(series.to_frame() if frame else series).items == items


@needs_polars
@needs_pyarrow
def test_tables_that_are_no_data_frames_are_refused():
    import polars as pl
    import pyarrow as pa

    with pytest.raises(SourceError, match=r"got Table; .*such as X\.to_pandas\(\)"):
        image_column(pa.table({"image": ["a.png"]}))
    with pytest.raises(SourceError, match="got LazyFrame"):  # without a warning of polars
        image_column(pl.LazyFrame({"image": ["a.png"]}))


@pytest.mark.parametrize("dtype", [str, object])
def test_arrays_of_text_are_paths(dtype):
    column = image_column(np.array(["a.png", "b.png"], dtype))
    assert [column.path(row) for row in range(2)] == ["a.png", "b.png"]


def test_items_of_all_kinds_mix():
    items = [Path("a.png"), bytearray(FILE), memoryview(FILE), Image.fromarray(GREY), GREY, COLOUR]
    column = image_column(items)
    assert column.path(0) == "a.png"
    grey, colour = b"P5\n8 6\n255\n" + GREY.tobytes(), b"P6\n8 6\n255\n" + COLOUR.tobytes()
    assert [column.read(row)[0] for row in range(1, 6)] == [FILE, FILE, grey, grey, colour]


@pytest.mark.parametrize("shape", [(5, 6, 8), (5, 6, 8, 1), (5, 6, 8, 3), (5, 6, 8, 4)])
def test_array_of_pixels_is_taken_as_it_is(shape):
    pixels = np.zeros(shape, np.uint8)
    column = image_column(pixels)
    assert len(column) == 5
    assert column.items is pixels


def test_ragged_arrays_are_images_each():
    ragged = np.empty(2, object)
    ragged[:] = [GREY, COLOUR]
    assert files(image_column(ragged)) == files(image_column([GREY, COLOUR]))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("a.png", "got one str; expected images"),
        (Path("a.png"), "got one .*Path"),
        (FILE, "got one bytes"),
        (photo(4, 4), "got one Image"),
        ({"a": "b"}, "got one dict"),
        (None, "got NoneType; expected images"),
        (3, "got int"),
        ((path for path in ["a.png"]), "got generator"),
        (csr_matrix((3, 3)), "of type csr_matrix"),
        ([], "holds no image"),
        (np.empty(0, object), "holds no image"),
        (np.empty((0, 8, 8), np.uint8), "holds no image"),
        (pd.DataFrame({"a": []}), "holds no image"),
        (pd.DataFrame({"a": ["x"], "b": ["y"]}), "2 columns a, b; expected one column of images"),
        (np.array([["x", "y"]], object), "array with 2 columns"),
        (np.empty((2, 2, 2), object), r"shape \(2, 2, 2\)"),
        (np.array([b"ab"]), "drops zeros at the end"),
        (GREY, r"shape \(6, 8\), expected \(n, height, width\)"),
        (np.zeros((2, 6, 8)), "float64, expected uint8"),
        (["a.png", None], "row 1 is missing"),
        (["a.png", float("nan")], "row 1 is missing"),
        (pd.Series(["a.png", pd.NA]), "row 1 is missing"),
        (pd.Series(["a.png", None], dtype="string"), "row 1 is missing"),
        (["a.png", "  "], "row 1 is an empty text"),
        (["a.png", "https://example.org/a.png"], "row 1 is the address"),
        (["a.png", 7], "row 1 is of type int; expected images"),
        (["a.png", ["b.png"]], "row 1 is of type list"),
        ([GREY, np.zeros((4, 4))], "row 1: got numbers of type float64"),
        ([GREY, np.zeros((5, 5, 2), np.uint8)], "row 1: got an array of shape"),
        ([GREY, np.uint8(3)], "row 1 is of type uint8"),
    ],
)  # fmt: skip
def test_wrong_input_is_named(wrong, message):
    with pytest.raises(SourceError, match=message) as caught:
        image_column(wrong)
    assert isinstance(caught.value, ValueError)


@needs_polars
def test_missing_value_of_polars_is_named():
    import polars as pl

    with pytest.raises(SourceError, match="row 1 is missing"):
        image_column(pl.Series(["a.png", None]))
    with pytest.raises(SourceError, match="2 columns a, b"):
        image_column(pl.DataFrame({"a": ["x"], "b": ["y"]}))
