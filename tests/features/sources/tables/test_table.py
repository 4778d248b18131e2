"""Tables of images as image sources."""

import json
import os

import pytest

from frostline.features.errors import SourceError
from frostline.features.sources import open_source, summarise
from frostline.splits import Split
from frostline.testing import ImageSourceKindContract
from frostline.testing.images import encode, photo
from tests.helpers.needs import needs_pyarrow

pytestmark = needs_pyarrow

IMAGES = [encode(photo(12, 10, seed=n)) for n in range(6)]
CLASSES = ["cat", "dog"]


def write_table(path, images, **columns):
    """Write images and other columns into a Parquet, Arrow file or Arrow stream, two or three rows at a time."""
    import pyarrow
    from pyarrow import ipc, parquet

    kind = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    cells = [
        image if image is None or isinstance(image, dict) else {"bytes": image, "path": None}
        for image in images
    ]
    table = pyarrow.table({"image": pyarrow.array(cells, kind), **columns})
    features = {"label": {"names": CLASSES, "_type": "ClassLabel"}}
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    if str(path).endswith(".parquet"):
        parquet.write_table(table, path, row_group_size=3)
    else:
        new = ipc.new_file if str(path).endswith(".feather") else ipc.new_stream
        with open(path, "wb") as file, new(file, table.schema) as writer:  # noqa: PTH123
            writer.write_table(table, max_chunksize=2)
    return path


class TableContract(ImageSourceKindContract):
    """Tests of the source of a table of images. Subclasses define `name`, whose suffix is the format."""

    kind = "table"
    alone = False
    sized = False

    @pytest.fixture
    def files(self):
        return {f"{row:08}": image for row, image in enumerate(IMAGES)}

    @pytest.fixture
    def source(self, tmp_path):
        return open_source(write_table(tmp_path / self.name, IMAGES, label=[0, 1, 0, 1, -1, 0]))

    def images(self, source):
        return [source.read(row)[0] for row in range(len(source.table))]

    def write(self, source, row, data):
        images = self.images(source)
        images[row] = data
        write_table(source.root, images, label=[0] * len(images))

    def remove(self, source, row):
        write_table(source.root, self.images(source)[:row], label=[0] * row)

    def test_numbers_of_classes_have_names(self, source):
        assert source.table.classes == ("cat", "dog")
        assert source.table.labels.tolist() == [0, 1, 0, 1, -1, 0]

    def test_rows_are_read_in_any_order(self, source):
        rows = [5, 0, 3, 1, 4, 2, 2]
        assert [source.read(row)[0] for row in rows] == [IMAGES[row] for row in rows]


class TestParquet(TableContract):
    name = "a.parquet"


class TestArrowStream(TableContract):
    name = "a.arrow"


class TestArrowFile(TableContract):
    name = "a.feather"


def test_shards_with_splits(tmp_path):
    for split, images in (("train", IMAGES[:4]), ("validation", IMAGES[4:])):
        write_table(tmp_path / f"{split}-00000-of-00001.parquet", images, label=[0] * len(images))
    source = open_source(tmp_path / "*.parquet")
    assert source.table.split.tolist() == [Split.TRAIN] * 4 + [Split.VAL] * 2
    assert source.table.ids[0] == b"train-00000-of-00001/00000000"
    assert [source.read(row)[0] for row in range(6)] == IMAGES


def test_columns_that_only_some_shards_have_are_named(tmp_path):
    write_table(tmp_path / "1.parquet", IMAGES[:3], label=[0, 1, 0], age=[1, 2, 3], sex=["f", "m", "f"])
    write_table(tmp_path / "2.parquet", IMAGES[3:], label=[0, 1, 0], age=[4, 5, 6], size=[1, 2, 3])
    source = open_source(tmp_path / "*.parquet")
    assert [column.name for column in source.table.columns] == ["age"]
    found = summarise(source)
    assert found.unused_columns == ("sex", "size")
    assert "not used, because not all files have them: the columns 'sex', 'size'" in found.remarks


def test_columns(tmp_path):
    columns = {
        "species": ["a", "b"] * 3,
        "split": ["train", "test", "val"] * 2,
        "patient": [1.0, 1.0, 2.0, 2.0, None, 3.0],
    }
    path = write_table(tmp_path / "a.parquet", IMAGES, **columns)
    with pytest.raises(SourceError, match="'species' looks like one"):
        open_source(path)
    source = open_source(path, label_column="species", group_column="patient")
    assert source.table.classes == ("a", "b")
    assert source.table.split.tolist() == [1, 3, 2] * 2
    assert source.table.groups.tolist() == [b"1", b"1", b"2", b"2", b"", b"3"]
    assert summarise(source).columns == {"label": "species", "split": "split", "group": "patient"}


def test_plain_bytes_named_like_images(tmp_path):
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table(
        {"jpg": pyarrow.array(IMAGES, pyarrow.large_binary()), "thumb_image": IMAGES, "label": ["x"] * 6}
    )
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(
        SourceError, match="several columns of images, 'jpg', 'thumb_image'; name one with --path-column"
    ):
        open_source(tmp_path / "a.parquet")
    source = open_source(tmp_path / "a.parquet", path_column="jpg")
    assert source.read(3)[0] == IMAGES[3]
    with pytest.raises(SourceError, match=r"--path-column: got 'label', expected a column of images"):
        open_source(tmp_path / "a.parquet", path_column="label")


def test_a_column_of_images_with_another_name_is_named(tmp_path):
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"blob": IMAGES, "label": ["x"] * 6}), tmp_path / "a.parquet")
    with pytest.raises(SourceError, match=r"a\.parquet, column 'blob': got bytes .* such as image, .*rename"):
        open_source(tmp_path / "a.parquet", path_column="blob")


def test_a_column_of_paths_is_a_manifest(tmp_path):
    import pyarrow
    from pyarrow import parquet

    (tmp_path / "1.png").write_bytes(IMAGES[0])
    parquet.write_table(pyarrow.table({"path": [b"1.png"], "label": ["x"]}), tmp_path / "a.parquet")
    assert open_source(tmp_path / "a.parquet").table.ids.tolist() == [b"1.png"]


def test_rows_without_an_image_fail(tmp_path):
    images = [IMAGES[0], None, {"bytes": None, "path": "/etc/passwd"}, IMAGES[3]]
    source = open_source(write_table(tmp_path / "a.parquet", images, label=[0] * 4))
    for row in (1, 2):
        with pytest.raises(OSError, match="the row holds no bytes of an image"):
            source.read(row)
    assert source.read(3)[0] == IMAGES[3]


def test_a_class_without_a_name_is_refused(tmp_path):
    path = write_table(tmp_path / "a.parquet", IMAGES, label=[0, 1, 2, 0, 0, 0])
    with pytest.raises(
        SourceError, match=r"a\.parquet, row 3, column 'label': got class 2, expected -1 or one of the 2"
    ):
        open_source(path)


def test_a_damaged_row_group_fails_its_rows_or_the_file(tmp_path):
    path = write_table(tmp_path / "a.parquet", IMAGES, label=[0] * 6)
    data = bytearray(path.read_bytes())
    at = data.index(IMAGES[4][:60])
    data[at - 40 : at + 60] = bytes(100)
    path.write_bytes(data)
    source = open_source(path)
    assert [source.read(row)[0] for row in range(3)] == IMAGES[:3]
    outcomes = []
    for row in (3, 4, 5):
        try:
            outcomes.append(source.read(row)[0] == IMAGES[row])
        except OSError as error:
            assert "damaged" in str(error) or "ends before" in str(error)  # noqa: PT017
            outcomes.append(False)
    assert not all(outcomes)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.feather"])
@pytest.mark.parametrize("keep", [0.0, 0.4, 0.9])
def test_truncated_files_are_named(name, keep, tmp_path):
    path = write_table(tmp_path / name, IMAGES, label=[0] * 6)
    os.truncate(path, int(keep * path.stat().st_size))
    with pytest.raises(SourceError, match=name.replace(".", r"\.")):
        open_source(path)


def test_tables_without_images_are_refused(tmp_path):
    path = write_table(tmp_path / "a.arrow", [], label=[])
    with pytest.raises(SourceError, match="holds no row"):
        open_source(path)
    import pyarrow
    from pyarrow import feather

    feather.write_feather(pyarrow.table({"x": [1]}), tmp_path / "b.feather")
    with pytest.raises(
        SourceError, match=r"no column of images among 'x \(int64\)'; name one with --path-column"
    ):
        open_source(tmp_path / "b.feather")


def test_the_reason_of_a_damaged_row_is_one_line(tmp_path):
    from pyarrow import parquet

    path = write_table(tmp_path / "a.parquet", IMAGES, label=[0, 1, 0, 1, -1, 0])
    column = parquet.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + 20] = bytes(255 - each for each in data[start : start + 20])
    path.write_bytes(data)
    with pytest.raises(OSError, match="the table is damaged") as caught:
        open_source(path).read(4)
    assert "\n" not in str(caught.value)
