"""What is said where a cache is missing, or holds no label."""

import shutil

import pytest

from frostline import RunError, SplitError
from frostline.pipeline import FinetuneError, evaluate, extract, finetune, train_head
from frostline.pipeline.inputs.joined_caches import open_caches
from tests.helpers.images import write_folder
from tests.helpers.network import BACKBONE
from tests.helpers.runner import run
from tests.helpers.tables import write_manifest


@pytest.fixture
def lost(ten_digits, tmp_path):
    """A run whose cache was moved, and the new place of the cache."""
    extract(ten_digits, cache=tmp_path / "c.h5", engine="eager", precision="fp32", device="cpu", **BACKBONE)
    path = train_head(tmp_path / "c.h5", "linear", params={"l2": 0.1}, run=tmp_path / "run").run
    (tmp_path / "c.h5").rename(tmp_path / "moved.h5")
    return path, tmp_path / "moved.h5"


def test_evaluate_names_the_missing_cache_and_takes_its_new_place(lost):
    path, moved = lost
    with pytest.raises(
        RunError, match=rf"trained on .*c\.h5, which does not exist.*frostline evaluate {path} NEW-PLACE"
    ):
        evaluate(path)
    assert evaluate(path, moved).rows > 0


def test_finetune_from_a_run_says_how_to_use_the_cache_at_its_new_place(lost, ten_digits, tmp_path):
    path, _ = lost
    with pytest.raises(
        FinetuneError, match=r"c\.h5, which does not exist.*train-head on it at its new place"
    ):
        finetune(ten_digits, from_run=path, run=tmp_path / "tuned", workers=0, cached=False, **BACKBONE)


@pytest.mark.parametrize("command", [("train-head",), ("cache", "info"), ("label-errors",), ("rank",)])
def test_commands_that_read_a_cache_say_what_to_do_without_it(command, tmp_path):
    refused = run(*command, tmp_path / "gone.h5", code=1)
    assert "If the cache was moved, name its new place" in refused.stderr
    assert "frostline extract DATA --cache gone.h5" in refused.stderr


def test_a_manifest_beside_a_missing_cache_is_named_with_what_prevents_its_extraction(tmp_path):
    write_folder(tmp_path, ["1.png"])
    write_manifest(tmp_path / "set.csv", ("path", "class"), ("1.png", "a"))
    with pytest.raises(FileNotFoundError) as error:
        open_caches(tmp_path / "set.h5")
    assert "set.csv beside it can't be extracted like this" in error.value.__notes__[-1]
    assert "no label column, but 'class' looks like one" in error.value.__notes__[-1]
    write_manifest(tmp_path / "set.csv", ("path", "label"), ("1.png", "a"))
    with pytest.raises(FileNotFoundError) as error:
        open_caches(tmp_path / "set.h5")
    assert f"frostline extract {tmp_path}/set.csv --cache {tmp_path}/set.h5" in error.value.__notes__[-1]


def test_a_cache_without_labels_is_refused_with_what_is_expected(ten_digits, tmp_path):
    for number, path in enumerate(sorted(ten_digits.glob("*/*"))[:8]):
        (tmp_path / "set").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "set" / f"{number}.png")
    extract(tmp_path / "set", cache=tmp_path / "c.h5", **BACKBONE)
    with pytest.raises(SplitError, match=r"no label is known of any of its 8 images.*--label-column"):
        train_head(tmp_path / "c.h5")
