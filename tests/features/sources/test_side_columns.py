"""Columns of tables of images that have no role are kept, whatever the format of the table."""

import json
from contextlib import closing

import numpy as np
import pytest

from frostline.features.errors import SourceError
from frostline.features.sources import open_source
from frostline.features.sources.memory import images_source
from frostline.features.sources.summary import summarise
from tests.helpers.needs import needs_pyarrow
from tests.helpers.sources import write_tar

AGES = [31, None, 58, 12.5]
SEXES = ["f", "m", "", "f"]
BOXES = [[1, 2]] * 4
CAPTIONS = ["word " * 200] * 4


@pytest.fixture
def photos(few_digits, tmp_path):
    paths = sorted(few_digits.rglob("*.png"))[:4]
    (tmp_path / "data").mkdir()
    for number, path in enumerate(paths):
        (tmp_path / "data" / f"{number}.png").write_bytes(path.read_bytes())
    return tmp_path / "data"


def csv(photos):
    cells = zip(AGES, SEXES, CAPTIONS, strict=True)
    lines = [
        f"{n}.png,a,{'' if age is None else age},{sex},{text}" for n, (age, sex, text) in enumerate(cells)
    ]
    # The rows are listed in another order than they are kept in.
    (photos / "m.csv").write_text("\n".join(["path,label,age,sex,caption", *reversed(lines)]))
    return photos / "m.csv"


def rows(name):
    cells = zip(AGES, SEXES, CAPTIONS, BOXES, strict=True)
    return [
        {name: f"{n}.png", "label": "a", "age": age, "sex": sex, "caption": text, "boxes": boxes}
        for n, (age, sex, text, boxes) in enumerate(cells)
    ]


def json_lines(photos):
    (photos / "m.jsonl").write_text("\n".join(map(json.dumps, rows("path"))))
    return photos / "m.jsonl"


def parquet(photos):
    import pyarrow
    from pyarrow import parquet as files

    files.write_table(pyarrow.Table.from_pylist(rows("path")), photos / "m.parquet")
    return photos / "m.parquet"


def images_in_parquet(photos):
    import pyarrow
    from pyarrow import parquet as files

    listed = [{"image": {"bytes": (photos / row.pop("path")).read_bytes()}, **row} for row in rows("path")]
    files.write_table(pyarrow.Table.from_pylist(listed), photos / "images.parquet")
    return photos / "images.parquet"


def samples(photos):
    files = {}
    for number, row in enumerate(rows("path")):
        files[f"{number}.png"] = (photos / row.pop("path")).read_bytes()
        files[f"{number}.json"] = json.dumps(row).encode()
    return write_tar(photos / "samples.tar", files)


@pytest.mark.parametrize(
    ("make", "lost"),
    [
        (csv, ("caption",)),
        (json_lines, ("caption", "boxes")),
        pytest.param(parquet, ("caption", "boxes"), marks=needs_pyarrow),
        pytest.param(images_in_parquet, ("caption", "boxes"), marks=needs_pyarrow),
        (samples, ("caption", "boxes")),
    ],
)
def test_numbers_and_short_texts_are_kept_in_the_order_of_the_rows(photos, make, lost):
    with closing(open_source(make(photos))) as source:
        columns = {column.name: column.cells for column in source.table.columns}
        assert sorted(columns) == ["age", "sex"]
        np.testing.assert_array_equal(columns["age"], [31, np.nan, 58, 12.5])
        assert columns["sex"].tolist() == SEXES
        assert source.notes.unused_columns == lost
        found = summarise(source)
        assert found.side_columns == ("age", "sex")
        assert any("kept beside: 'age', 'sex'; not used: " in line for line in found.lines())


def test_columns_with_one_name_are_not_kept(photos):
    (photos / "m.csv").write_text("path,age,age\n0.png,1,2\n")
    with closing(open_source(photos / "m.csv")) as source:
        assert (source.table.columns, source.notes.unused_columns) == ((), ("age", "age"))


def test_side_columns_of_images_in_memory():
    images = np.zeros((3, 4, 4), np.uint8)
    with closing(
        images_source(images, ids=["b", "a", "c"], columns={"age": [1, 2, None], "caption": ["x" * 300] * 3})
    ) as source:
        (age,) = source.table.columns
        np.testing.assert_array_equal(age.cells, [2, 1, np.nan])
        assert source.notes.unused_columns == ("caption",)
    with pytest.raises(SourceError, match="age: got 2, expected one per image, 3"):
        images_source(images, columns={"age": [1, 2]})


def test_side_columns_of_a_data_set_of_hugging_face(photos, tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["a"]),
            "age": datasets.Value("float32"),
            "sex": datasets.ClassLabel(names=["f", "m"]),
        }
    )
    cells = {"image": [str(photos / f"{n}.png") for n in range(4)], "label": [0] * 4}
    rows = datasets.Dataset.from_dict({**cells, "age": [0.1, None, 58, 12.5], "sex": [0, 1, -1, 0]}, features)
    (tmp_path / "set").mkdir()
    rows.to_parquet(tmp_path / "set" / "train.parquet")
    with closing(open_source(f"hf:{tmp_path / 'set'}")) as source:
        columns = {column.name: column.cells for column in source.table.columns}
    np.testing.assert_allclose(columns["age"], [0.1, np.nan, 58, 12.5], rtol=1e-7)
    assert columns["sex"].tolist() == ["f", "m", "", "f"]
