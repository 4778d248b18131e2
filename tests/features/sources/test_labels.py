"""Labels stay what was written, whatever form they are written in."""

import unicodedata

import pytest

from frostline.features.errors import SourceError
from frostline.features.sources import open_source, summarise
from frostline.features.sources.labels import sort_classes
from tests.helpers.images import write_folder
from tests.helpers.tables import columns, write_manifest, write_parquet

NFC, NFD = (unicodedata.normalize(form, "Pâté") for form in ("NFC", "NFD"))


@pytest.fixture
def root(tmp_path):
    return write_folder(tmp_path, ["1.png", "2.png", "3.png"])


def csv_labels(root, *labels):
    rows = [(f"{number}.png", label) for number, label in enumerate(labels, 1)]
    return open_source(write_manifest(root / "set.csv", ("path", "label"), *rows))


def parquet_labels(root, labels):
    paths = [f"{number}.png" for number in range(1, len(labels) + 1)]
    return open_source(write_parquet(root / "set.parquet", path=paths, label=labels))


@pytest.mark.parametrize("labels", [("007", "7", "08"), ("1.10", "1.1", "1.0"), ("+1", "1", "-0")])
def test_numbers_keep_their_text(root, labels):
    found = columns(csv_labels(root, *labels))
    assert tuple(label for label, *_ in found.values()) == labels
    assert columns(parquet_labels(root, list(labels))) == found


def test_integers_are_sorted_by_value(root):
    assert csv_labels(root, "010", "9", "10").table.classes == ("9", "010", "10")
    some = ["-12", "-2", "-02", "+1", "-0", "0", "00", "1", "3", "10", "+20"]
    assert sort_classes(some[::-1]) == tuple(sorted(some, key=lambda name: (int(name), name)))


def test_integers_of_any_length_are_sorted_by_value(root):
    large, larger = "9" * 5000, "1" + "0" * 5000
    assert csv_labels(root, larger, large, f"-{larger}", f"-{large}").table.classes == (
        f"-{larger}",
        f"-{large}",
        large,
        larger,
    )


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        ([0.0, 1.0, 10.0], ("0", "1", "10")),
        ([0.0, None, 10.0], ("0", "10")),
        ([1.0, 1.5, 2.0], ("1.0", "1.5", "2.0")),
        ([True, False, None], ("False", "True")),
    ],
)
def test_a_table_gives_the_same_classes_as_csv_and_as_parquet(root, values, classes):
    texts = ["" if value is None else str(value) for value in values]
    assert csv_labels(root, *texts).table.classes == classes
    assert parquet_labels(root, values).table.classes == classes


def test_bytes_are_decoded_and_other_bytes_refused(root):
    assert parquet_labels(root, ["é".encode(), b"b", None]).table.classes == ("b", "é")
    with pytest.raises(
        SourceError, match=r"row 2, column 'label': bytes that are not UTF-8 text; got b'\\xe9'"
    ):
        parquet_labels(root, [b"a", b"\xe9", b"b"])


@pytest.mark.parametrize("value", [["cat"], {"bytes": b"\0" * 5000, "path": "1.png"}])
def test_lists_and_structs_are_refused_by_the_name_of_the_column(root, value):
    with pytest.raises(
        SourceError, match=r"the column 'label' holds .*; expected one text or number"
    ) as error:
        parquet_labels(root, [value] * 3)
    assert len(str(error.value)) < 500


def test_unicode_forms_of_a_name_are_one_class_with_a_word(root):
    source = csv_labels(root, NFC, NFD, "Soupe")
    assert source.table.classes == (NFC, "Soupe")
    assert any("several Unicode forms" in remark for remark in source.notes.remarks)
    alone = csv_labels(root, NFD, NFD, "Soupe")
    assert alone.table.classes == (NFC, "Soupe")
    assert alone.notes.remarks == ()


def test_unicode_forms_of_folders_are_one_class(tmp_path):
    names = [f"train/{NFD}/1.png", f"val/{NFC}/2.png"]
    source = open_source(write_folder(tmp_path, names))
    assert source.table.classes == (NFC,)
    assert source.read(0)[0] == (tmp_path / names[0]).read_bytes()


def test_classes_that_differ_in_case_alone_stay_apart_with_a_word(root):
    source = csv_labels(root, "Cat", "cat", "dog")
    assert source.table.classes == ("Cat", "cat", "dog")
    assert summarise(source).remarks == ("'Cat', 'cat' differ only in case or blanks, and are 2 classes",)


def test_surrounding_blanks_in_a_manifest_are_dropped_with_a_word(root):
    source = csv_labels(root, " cat", "cat ", "dog")
    assert source.table.classes == ("cat", "dog")
    assert source.notes.remarks == ("2 label(s) had surrounding blanks, which are dropped",)
