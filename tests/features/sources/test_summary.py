"""Summary of a source: the images found and the entries skipped."""

from frostline.features.notes import Skipped, SourceNotes
from frostline.features.sources import open_paths, open_source, summarise
from tests.helpers.images import write_folder
from tests.helpers.tables import write_manifest


def test_a_folder_in_a_few_lines(tmp_path):
    names = ["seg_train/a/1.png", "seg_train/a/2.png", "seg_train/b/3.png", "seg_test/a/4.png", "cover.png"]
    write_folder(tmp_path, names)
    (tmp_path / "seg_test" / "b").mkdir()
    (tmp_path / "seg_train" / "a" / "notes.txt").write_text("")
    (tmp_path / "seg_train" / "a" / "noext").write_text("")
    (tmp_path / "seg_train" / "a" / "lost.png").symlink_to("nowhere.png")
    assert [*summarise(open_source(tmp_path)).lines()] == [
        f"{tmp_path}: 6 images, 2 classes (1 image of 'b' to 4 of 'a'), 1 without a label",
        "  splits: 1 without a split, 4 train, 1 test (seg_test is test, seg_train is train)",
        "  missing or not accessible: 1 ('seg_train/a/lost.png')",
        "  skipped: 1 without extension, 1 .txt",
        "  folders without an image: 'seg_test/b'",
    ]


def test_an_unlabelled_folder_in_one_line(tmp_path):
    write_folder(tmp_path, ["1.png", "2.png"])
    assert [*summarise(open_source(tmp_path)).lines()] == [f"{tmp_path}: 2 images, none with a label"]


def test_a_manifest_names_its_columns(tmp_path):
    write_folder(tmp_path, ["1.png", "2.png"])
    path = write_manifest(tmp_path / "set.csv", ("path", "kind", "w"), ("1.png", "a", 1), ("2.png", "b", 2))
    found = summarise(open_source(path, label_column="kind"))
    assert "  columns: path from 'path', label from 'kind'; kept beside: 'w'" in [*found.lines()]
    assert found.classes == {"a": 1, "b": 1}


def test_labelled_rows_without_a_split_beside_rows_with_one_are_told(tmp_path):
    write_folder(tmp_path, ["1.png", "2.png", "3.png"])
    rows = [("1.png", "a", "train"), ("2.png", "a", ""), ("3.png", "", "")]
    found = summarise(open_source(write_manifest(tmp_path / "set.csv", ("path", "label", "split"), *rows)))
    assert any("1 labelled images have no split, while 1 others have one" in each for each in found.remarks)


def test_a_limited_source_keeps_the_notes_of_the_whole(tmp_path):
    write_folder(tmp_path, ["a/1.png", "b/2.png"])
    (tmp_path / "a" / "notes.txt").write_text("")
    found = summarise(open_source(tmp_path, limit=1))
    assert (found.images, found.classes, found.skipped.files) == (1, {"a": 1, "b": 0}, {".txt": 1})


def test_named_folders_tell_what_was_passed_over(tmp_path):
    write_folder(tmp_path, ["x/1.png", "y/2.png", "y/@eaDir/3.png"])
    (tmp_path / "x" / "4.cr2").write_text("")
    (tmp_path / "y" / "5.cr2").write_text("")
    notes = open_paths([tmp_path / "x", tmp_path / "y"]).notes
    assert notes.skipped == Skipped(files={".cr2": 2}, folders={"@eaDir": 1})
    assert "2 .cr2; develop these raw photos" in notes.remarks[0]


def test_notes_survive_json_in_a_bounded_size():
    few = SourceNotes(
        columns={"path": "file"},
        split_folders={"a": "train"},
        skipped=Skipped(files={".txt": 3}, hidden=1, empty_folders=("b",)),
        remarks=("said",),
    )
    assert SourceNotes.from_json(few.to_json()) == few
    many = SourceNotes(skipped=Skipped(empty_folders=tuple(map(str, range(10**5)))))
    assert len(SourceNotes.from_json(many.to_json()).skipped.empty_folders) == 100


def test_missing_files_are_named(tmp_path):
    write_folder(tmp_path, ["1.png"])
    rows = [("1.png", "a"), *((f"{number}.png", "a") for number in range(4, 8))]
    found = summarise(open_source(write_manifest(tmp_path / "set.csv", ("path", "label"), *rows)))
    assert (found.missing, found.missing_names) == (4, ("4.png", "5.png", "6.png"))
    assert "  missing or not accessible: 4 ('4.png', '5.png', '6.png' and 1 more)" in list(found.lines())


def test_one_class_has_no_each(tmp_path):
    write_folder(tmp_path, ["a/1.png", "a/2.png"])
    assert next(summarise(open_source(tmp_path)).lines()).endswith(": 2 images, 1 class (2 images)")


def test_columns_that_may_be_labels_or_splits_are_told(tmp_path):
    write_folder(tmp_path, ["1.png"])
    manifest = write_manifest(tmp_path / "set.csv", ("path", "diagnosis", "Subset"), ("1.png", "a", "train"))
    assert [remark.partition(";")[0] for remark in summarise(open_source(manifest)).remarks] == [
        "no column of labels among 'Subset', 'diagnosis', so the images are unlabelled",
        "the column 'Subset' looks like splits, but is not used",
    ]
    chosen = open_source(manifest, label_column="diagnosis", split_column="none")
    assert not chosen.notes.remarks
