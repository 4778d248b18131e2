"""Which folders are splits and which are classes, by their names and by what they hold."""

import pytest

from frostline.features.errors import SourceError
from frostline.features.sources import open_source
from tests.helpers.images import write_folder
from tests.helpers.tables import columns


def labelled(root, names, **options):
    """Label and split of each image."""
    found = columns(open_source(write_folder(root, names), **options))
    return {id_: (label, split) for id_, (label, split, _) in found.items()}


@pytest.mark.parametrize(
    ("train", "test", "split"),
    [
        ("Training", "Testing", "test"),
        ("TRAINING", "Validation", "val"),
        ("training_set", "test_set", "test"),
        ("seg_train", "seg_test", "test"),
        ("train_images", "val_images", "val"),
        ("img_train", "img_valid", "val"),
        ("TrainImages", "TestImages", "test"),
        ("trainset", "testset", "test"),
        ("train", "dev", "val"),
        ("train2017", "val2017", "val"),
        ("my-train", "my-test", "test"),
    ],
)
def test_folders_whose_names_contain_a_split_are_splits(tmp_path, train, test, split):
    names = [f"{train}/cat/1.png", f"{train}/dog/2.png", f"{test}/cat/3.png", f"{test}/dog/4.png"]
    assert labelled(tmp_path, names) == {
        f"{train}/cat/1.png": ("cat", "train"),
        f"{train}/dog/2.png": ("dog", "train"),
        f"{test}/cat/3.png": ("cat", split),
        f"{test}/dog/4.png": ("dog", split),
    }


def test_a_test_split_without_labels_beside_named_splits(tmp_path):
    found = labelled(tmp_path, ["train_images/cat/1.png", "train_images/dog/2.png", "test_images/3.png"])
    assert found["test_images/3.png"] == (None, "test")
    assert found["train_images/cat/1.png"] == ("cat", "train")


def test_splits_that_repeat_their_own_name_on_the_next_level(tmp_path):
    names = ["seg_train/seg_train/sea/1.png", "seg_train/seg_train/ice/2.png", "seg_test/seg_test/sea/3.png"]
    assert labelled(tmp_path, names) == {
        "seg_train/seg_train/sea/1.png": ("sea", "train"),
        "seg_train/seg_train/ice/2.png": ("ice", "train"),
        "seg_test/seg_test/sea/3.png": ("sea", "test"),
    }


@pytest.mark.parametrize(
    ("first", "second"),
    [("entrenamiento", "prueba"), ("train", "eval"), ("train", "holdout"), ("2023", "2024"), ("A", "B")],
)
def test_the_same_classes_below_unclear_names_are_refused_with_the_option(tmp_path, first, second):
    names = [f"{first}/cat/1.png", f"{first}/Dog/2.png", f"{second}/cat/3.png", f"{second}/dog/4.png"]
    with pytest.raises(
        SourceError,
        match=rf"all hold the sub-folders '(Dog', 'cat|cat', 'dog)', so .*--split-folders .*{second}=\.\.\.",
    ):
        open_source(write_folder(tmp_path, names))
    chosen = labelled(tmp_path, names, split_folders=[f"{first}=train,{second}=test"])
    assert chosen[f"{second}/dog/4.png"] == ("dog", "test")
    classes = labelled(tmp_path, names, split_folders=["none"])
    assert classes[f"{second}/dog/4.png"] == (second, "")


def test_one_common_sub_folder_makes_no_splits(tmp_path):
    assert labelled(tmp_path, ["cat/images/1.png", "dog/images/2.png"]) == {
        "cat/images/1.png": ("cat", ""),
        "dog/images/2.png": ("dog", ""),
    }


def test_classes_whose_names_contain_a_split_stay_classes(tmp_path):
    found = labelled(tmp_path, ["train station/1.png", "test tube/2.png", "airport/3.png"])
    assert {label for label, _ in found.values()} == {"train station", "test tube", "airport"}


def test_split_names_without_class_folders_are_refused_unless_they_are_plain(tmp_path):
    names = ["train_images/1.png", "test_images/2.png"]
    with pytest.raises(SourceError, match="look like splits, but hold no class folders"):
        open_source(write_folder(tmp_path / "a", names))
    chosen = labelled(tmp_path / "a", names, split_folders={"train_images": "train", "test_images": "test"})
    assert chosen == {"train_images/1.png": (None, "train"), "test_images/2.png": (None, "test")}
    plain = labelled(tmp_path / "b", ["train/1.png", "test/2.png"])
    assert plain == {"train/1.png": (None, "train"), "test/2.png": (None, "test")}


def test_splits_beside_a_folder_that_tells_none_can_be_left_out(tmp_path):
    names = ["seg_train/a/1.png", "seg_train/b/2.png", "seg_test/a/3.png", "seg_pred/4.png"]
    with pytest.raises(SourceError, match=r"seg_pred=\.\.\.,seg_test=test,seg_train=train"):
        open_source(write_folder(tmp_path, names))
    source = open_source(tmp_path, split_folders=["seg_train=train,seg_test=test,seg_pred=skip"])
    assert [*columns(source)] == ["seg_test/a/3.png", "seg_train/a/1.png", "seg_train/b/2.png"]
    assert source.notes.skipped.folders == {"seg_pred": 1}
    assert source.notes.split_folders == {"seg_train": "train", "seg_test": "test", "seg_pred": "skip"}


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (["Training"], "got 'Training'; expected FOLDER=SPLIT"),
        (["Training=lern"], "got 'lern' for the folder 'Training'; expected train, val, test, or skip"),
        ({"Trainig": "train"}, "has no folder 'Trainig'.*Training"),
        ({"Training": "train"}, "also contains 'Testing'"),
        ({"Training": "skip", "Testing": "skip"}, "every folder that holds images is left out"),
    ],
)
def test_choices_that_do_not_fit_are_refused(tmp_path, chosen, message):
    with pytest.raises(SourceError, match=message):
        open_source(write_folder(tmp_path, ["Training/a/1.png", "Testing/a/2.png"]), split_folders=chosen)


def test_a_single_top_folder_with_sub_folders_is_told(tmp_path):
    source = open_source(write_folder(tmp_path, ["flowers/rose/1.png", "flowers/tulip/2.png"]))
    assert source.table.classes == ("flowers",)
    (remark,) = source.notes.remarks
    assert f"name it instead: {tmp_path}/flowers" in remark
    assert "'rose', 'tulip'" in remark


def test_a_class_alone_is_not_doubted(tmp_path):
    assert open_source(write_folder(tmp_path, ["flowers/1.png", "flowers/2.png"])).notes.remarks == ()


def test_a_class_may_be_missing_from_some_of_the_splits(tmp_path):
    names = ["entrainement/chat/1.png", "entrainement/chien/2.png", "entrainement/lapin/3.png"]
    names += ["essai/chat/4.png", "essai/chien/5.png"]
    with pytest.raises(
        SourceError, match=r"all hold the sub-folders 'chat', 'chien', so these look like the classes"
    ):
        open_source(write_folder(tmp_path, names))


def test_sub_folders_that_are_mostly_other_ones_belong_to_classes(tmp_path):
    names = [f"cat/{day}/1.png" for day in ("mon", "tue", "wed")] + [
        f"dog/{day}/1.png" for day in ("tue", "wed", "thu", "fri")
    ]
    assert {label for label, _ in labelled(tmp_path, names).values()} == {"cat", "dog"}


def test_folders_with_commas_blanks_and_slashes_are_named_as_they_are(tmp_path):
    names = [f"day 1, morning/{kind}/1.png" for kind in ("a", "b")] + [
        f"x/{kind}/2.png" for kind in ("a", "b")
    ]
    with pytest.raises(SourceError, match=r"--split-folders '?day 1, morning=\.\.\.,x=\.\.\.'"):
        open_source(write_folder(tmp_path, names))
    for texts in (
        ["day 1, morning=train,x=test"],
        ["day 1, morning=train", "x=test"],
        ["day 1, morning/ = train, x=test"],
    ):
        found = labelled(tmp_path, names, split_folders=texts)
        assert found["day 1, morning/a/1.png"] == ("a", "train")
        assert found["x/b/2.png"] == ("b", "test")


def test_a_folder_is_named_once(tmp_path):
    root = write_folder(tmp_path, ["train/a/1.png", "holdout/a/2.png"])
    with pytest.raises(SourceError, match=r"the folder 'train' twice"):
        open_source(root, split_folders=["train=train,train=test,holdout=test"])


def test_sub_folders_of_a_class_that_are_named_like_splits_are_told(tmp_path):
    found = open_source(write_folder(tmp_path, ["raw/train/a/1.png", "raw/test/a/2.png", "about/3.png"]))
    (remark,) = found.notes.remarks
    assert remark.startswith("'raw' is a class, and its sub-folders 'test', 'train' are named like splits")
    assert f"{tmp_path}/raw" in remark


def test_a_folder_listed_twice_through_a_link_is_told(tmp_path):
    root = write_folder(tmp_path, ["cat/1.png", "dog/2.png"])
    (root / "dog" / "more").symlink_to(root / "cat", target_is_directory=True)
    source = open_source(root)
    assert len(source.table) == 3
    (remark,) = source.notes.remarks
    assert "'cat'" in remark
    assert "'dog/more'" in remark
    assert "listed twice" in remark
