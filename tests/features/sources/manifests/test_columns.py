"""Which columns of a manifest are taken, and what is refused."""

import pytest

from frostline.features.errors import SourceError
from frostline.features.sources import open_source, summarise
from frostline.features.sources.manifests.columns import find_columns
from tests.helpers.images import write_folder
from tests.helpers.tables import columns, write_manifest, write_parquet


@pytest.fixture
def root(tmp_path):
    return write_folder(tmp_path, ["1.png", "2.png"])


def manifest(root, *header):
    cells = {"a": ("a", "b"), "s": ("train", "test"), "p": ("1.png", "2.png")}
    kinds = ["p" if "file" in name or name == "path" else "s" if "subset" in name else "a" for name in header]
    return write_manifest(root / "set.csv", header, *zip(*(cells[kind] for kind in kinds), strict=True))


@pytest.mark.parametrize(
    "name", ["class", "Target", "category", "Species", "class_name", "className", "species_id", "CLASS"]
)
def test_a_column_that_looks_like_labels_is_refused_and_named(root, name):
    with pytest.raises(
        SourceError, match=rf"no label column, but '{name}' looks like one. Name it: --label-column '{name}'"
    ):
        open_source(manifest(root, "path", name))
    source = open_source(root / "set.csv", label_column=name)
    assert source.table.classes == ("a", "b")
    assert source.notes.columns == {"path": "path", "label": name}
    assert open_source(root / "set.csv", label_column="none").table.classes == ()


@pytest.mark.parametrize("name", ["width", "classroom notes", "comment"])
def test_other_columns_are_told_and_kept_beside(root, name):
    source = open_source(manifest(root, "path", name))
    assert source.table.classes == ()
    assert [column.name for column in source.table.columns] == [name]
    assert any(f"kept beside: '{name}'" in line for line in summarise(source).lines())


def test_every_column_can_be_named(root):
    path = manifest(root, "file", "kind", "subset", "patient")
    found = open_source(
        path, path_column="file", label_column="kind", split_column="Subset", group_column="patient"
    )
    assert columns(found) == {"1.png": ("a", "train", "a"), "2.png": ("b", "test", "b")}
    assert found.notes.columns == {"path": "file", "label": "kind", "split": "subset", "group": "patient"}


def test_columns_of_parquet_can_be_named(root):
    path = write_parquet(root / "set.parquet", file=["1.png", "2.png"], target=[1, 0])
    assert open_source(path, path_column="file", label_column="target").table.classes == ("0", "1")


def test_a_named_column_goes_before_the_usual_one(root):
    path = manifest(root, "path", "label", "fine")
    source = open_source(path, label_column="fine")
    assert source.notes.columns == {"path": "path", "label": "fine"}
    assert [column.name for column in source.table.columns] == ["label"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_column": "labl"}, "--label-column: no column 'labl'; did you mean 'label'"),
        ({"path_column": "none"}, "--path-column: no column 'none'"),
        ({"label_column": "path"}, "the column 'path' can't be both path and label"),
        ({"split_folders": ["a=train"]}, "--split-folders: .*set.csv is a manifest .*for an image folder"),
    ],
)
def test_names_that_do_not_fit_are_refused(root, options, message):
    with pytest.raises(SourceError, match=message):
        open_source(manifest(root, "path", "label"), **options)


def test_a_folder_has_no_columns(root):
    with pytest.raises(
        SourceError, match=r"--label-column: .* is an image folder, and this option is for .* or a manifest"
    ):
        open_source(root, label_column="label")


def test_without_a_path_column_the_option_is_named(root):
    with pytest.raises(SourceError, match=r"no column 'path'.*--path-column 'filename'"):
        open_source(manifest(root, "filename", "label"))


@pytest.mark.parametrize(("name", "split"), [("dev", "val"), ("Training", "train"), ("TESTING", "test")])
def test_usual_names_of_splits(root, name, split):
    path = write_manifest(root / "set.csv", ("path", "split"), ("1.png", name))
    assert columns(open_source(path))["1.png"][1] == split


@pytest.mark.parametrize("name", ["eval", "holdout"])
def test_names_of_splits_that_mean_different_things_are_refused(root, name):
    path = write_manifest(root / "set.csv", ("path", "split"), ("1.png", name))
    with pytest.raises(SourceError, match=f"got '{name}'; expected train, "):
        open_source(path)


def test_a_message_names_only_some_of_very_many_columns():
    with pytest.raises(SourceError, match=r"'c0', .* 'c29' and 970 more; expected a header") as caught:
        find_columns([f"c{n}" for n in range(1000)], {}, "a.csv")
    assert len(str(caught.value)) < 500
