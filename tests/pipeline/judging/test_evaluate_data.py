"""A run is evaluated on the images that it held out, and says where its data differs."""

import json
import shutil

import pytest
from safetensors.numpy import load_file

from frostline.features.cache import FeatureCache
from frostline.pipeline import evaluate, extract, train_head
from frostline.pipeline.errors import RunError
from frostline.pipeline.inputs.labelled_images import divide_rows
from frostline.pipeline.runs.predictions import TEST_FILE
from frostline.pipeline.runs.run import load_run
from frostline.splits import Split
from frostline.testing import photo
from tests.helpers.images import write_image
from tests.helpers.listener import Listener
from tests.helpers.network import BACKBONE
from tests.helpers.runs import as_of_version_3

pytestmark = pytest.mark.usefixtures("cpu")

OPTIONS = {**BACKBONE, "engine": "eager", "precision": "fp32"}


def write_photos(folder, count, start=0):
    for index in range(start, start + count):
        write_image(folder / "ab"[index % 2] / f"{index:03}.png", seed=index)
    return folder


@pytest.fixture
def data(tmp_path):
    return write_photos(tmp_path / "one" / "photos", 30)


@pytest.fixture
def run(data, tmp_path):
    cache = extract(data, cache=tmp_path / "c.h5", **OPTIONS).cache
    return train_head(cache, "linear", params={"l2": 0.1}, run=tmp_path / "run").run


def evaluated_names(run):
    """Names of the images that were evaluated last."""
    lines = (run / TEST_FILE).read_text().splitlines()[1:]
    return {line.split(",")[0] for line in lines}


def test_the_same_data_is_evaluated_without_a_remark(run):
    report = Listener()
    result = evaluate(run, report=report)
    assert result.data.is_same
    assert not report.notes


def test_test_images_that_were_trained_on_are_refused(run, data, tmp_path):
    shutil.copytree(data, tmp_path / "other" / "test")
    cache = extract(tmp_path / "other", cache=tmp_path / "other.h5", **OPTIONS).cache
    with pytest.raises(RunError, match=r"of the 30 test images of .* are identical, byte for byte"):
        evaluate(run, cache)
    assert not load_run(run).ledger.entries()


def test_a_grown_data_set_is_evaluated_without_any_image_that_was_trained_on(run, data, tmp_path):
    evaluate(run)
    before = evaluated_names(run)
    write_photos(data, 90, start=30)
    extract(data, cache=tmp_path / "c.h5", **OPTIONS)
    report = Listener()
    result = evaluate(run, report=report)
    assert (result.data.common, result.data.added, result.data.relabelled) == (30, 90, 0)
    assert any("90 images are new" in note for note in report.notes)
    assert before < evaluated_names(run)
    old = {path.relative_to(data).as_posix() for path in data.glob("*/*") if int(path.stem) < 30}
    assert evaluated_names(run) & old == before


def test_removed_and_relabelled_images_are_counted(run, data, tmp_path):
    (data / "a" / "000.png").unlink()
    (data / "a" / "002.png").rename(data / "b" / "002.png")
    extract(data, cache=tmp_path / "c.h5", **OPTIONS)
    report = Listener()
    evaluate(run, report=report)
    (note,) = report.notes
    assert "1 of its 30 images is gone or changed, 1 image has another class" in note


def test_moved_data_is_the_same_data(run, data, tmp_path):
    shutil.move(data, tmp_path / "moved")
    extract(tmp_path / "moved", cache=tmp_path / "c.h5", **OPTIONS)
    report = Listener()
    evaluate(run, report=report)
    assert not report.notes


def test_a_cache_that_another_data_set_replaced_is_refused_unless_it_is_named(run, tmp_path):
    other = write_photos(tmp_path / "other" / "photos", 30, start=500)
    extract(other, cache=tmp_path / "c.h5", overwrite=True, **OPTIONS)
    with pytest.raises(RunError, match="none of its 30 images is there, 30 images are new") as caught:
        evaluate(run)
    assert str(other) in str(caught.value)
    assert not load_run(run).ledger.entries()
    report = Listener()
    assert evaluate(run, tmp_path / "c.h5", report=report).data.is_other
    assert any("none of its 30 images is there" in note for note in report.notes)


def test_a_moved_cache_is_asked_for(run, tmp_path):
    (tmp_path / "c.h5").rename(tmp_path / "moved.h5")
    with pytest.raises(
        RunError,
        match=r"run was trained on .*c\.h5, which does not exist.*frostline evaluate .*run NEW-PLACE\.h5",
    ):
        evaluate(run)
    assert evaluate(run, tmp_path / "moved.h5").rows > 0


def test_an_image_of_a_group_that_was_trained_on_is_no_test_image(data, tmp_path):
    """Also if all bytes of the group have changed since."""
    manifest = tmp_path / "set.csv"
    rows = [(path, path.parent.name, f"g{int(path.stem) // 2}") for path in sorted(data.glob("*/*"))]
    manifest.write_text("path,label,group\n" + "".join(f"{','.join(map(str, row))}\n" for row in rows))
    cache = extract(manifest, cache=tmp_path / "c.h5", **OPTIONS).cache
    run = train_head(cache, "linear", params={"l2": 0.1}, run=tmp_path / "run").run
    evaluate(run)
    before = evaluated_names(run)
    for index, (path, _, _) in enumerate(rows):
        photo(14, 14, seed=index).save(path)
    cache = extract(manifest, cache=cache, **OPTIONS).cache
    evaluate(run, cache)
    assert evaluated_names(run) == before


def test_a_run_of_an_earlier_version_is_evaluated_on_the_images_that_it_held_out(run, data, tmp_path):
    cache = FeatureCache.open(tmp_path / "c.h5")
    now = {str(name) for name in cache.ids[load_run(run).divide(cache) == Split.TEST]}
    held_out = as_of_version_3(run, cache)
    assert held_out != now
    report = Listener()
    evaluate(run, report=report)
    assert evaluated_names(run) == held_out
    assert not report.notes
    write_photos(data, 30, start=30)
    extract(data, cache=tmp_path / "c.h5", **OPTIONS)
    evaluate(run)
    assert held_out < evaluated_names(run)


def test_a_run_records_its_test_images_and_the_rule_of_its_division(run, tmp_path):
    recorded = load_file(run / "split.safetensors")
    cache = FeatureCache.open(tmp_path / "c.h5")
    assert sorted(recorded["split"].tolist()) == sorted(divide_rows(cache, (0.6, 0.2, 0.2)).tolist())
    assert load_run(run).record.split.rule == 2
    assert json.loads((run / "run.json").read_text())["format_version"] == 4
