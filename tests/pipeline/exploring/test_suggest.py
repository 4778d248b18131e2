"""What is suggested is what may be labelled, in the order of independent computations, and the manifest can be filled in."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import frostline
from frostline.commands.explore import _suggest_text
from frostline.errors import OptionError
from frostline.features.cache import FeatureCache
from frostline.features.errors import SearchError
from frostline.pipeline import RunError, extract, suggest, train_head
from frostline.pipeline.exploring.suggest import Suggestion, Suggestions
from tests.helpers.network import BACKBONE, BACKBONE_OPTIONS
from tests.helpers.runner import run
from tests.helpers.vectors import write_vectors


def name(row):
    return f"{row:05d}.jpg"


@pytest.fixture(scope="module")
def half(ten_digits, tmp_path_factory):
    """A manifest of digits of which every second has no label, its cache, and a run on the others."""
    folder = tmp_path_factory.mktemp("half")
    paths = sorted(ten_digits.rglob("*.png"))
    with (folder / "half.csv").open("w", newline="") as file:
        rows = [(path, path.parent.name if i % 2 else "") for i, path in enumerate(paths)]
        csv.writer(file).writerows([("path", "label"), *rows])
    cache = extract(folder / "half.csv", cache=folder / "half.h5", engine="eager", **BACKBONE).cache
    return FeatureCache.open(cache), train_head(cache, "linear", params={"l2": 0.1}, run=folder / "run").run


def test_neither_copies_nor_failed_nor_labelled_nor_test_rows_are_suggested(tmp_path):
    rng = np.random.default_rng(0)
    labels, content, split = np.full(20, -1), np.arange(20), np.zeros(20, int)
    labels[:4] = [0, 1, 0, 1]
    content[5] = content[0]  # a copy of a labelled image
    content[9] = content[8]  # a copy of an unlabelled one
    split[11] = 3
    split[12] = 1
    cache = write_vectors(
        tmp_path / "c.h5", rng.normal(size=(20, 6)), labels=labels, content=content, split=split, failed=[7]
    )
    found = suggest(cache, n=50)
    left = [4, 6, 8, 10, 12, 13, 14, 15, 16, 17, 18, 19]
    assert sorted(each.image for each in found.images) == [name(row) for row in left]
    assert (found.unlabelled, found.copies, found.by, found.run) == (12, 2, "coreset", None)
    assert [each.image for each in suggest(cache, in_split="test").images] == [name(11)]
    assert [each.image for each in suggest(cache, in_split="train").images] == [name(12)]


def test_the_coreset_starts_from_the_labelled_rows_that_are_not_in_test(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 6)).astype(np.float32)
    labels, split = np.full(60, -1), np.zeros(60, int)
    labels[:20], split[:20] = np.arange(20) % 2, np.repeat([1, 2, 3], [10, 5, 5])
    found = suggest(write_vectors(tmp_path / "c.h5", X, labels=labels, split=split), n=5)
    assert found.labelled == 15
    Y = X - np.delete(X, np.arange(15, 20), axis=0).mean(axis=0, dtype=float)
    Y /= np.linalg.norm(Y, axis=1, keepdims=True)
    known = list(range(15))
    for each in found.images:
        far = np.array([min(1 - Y[row] @ Y[k] for k in known) if row >= 20 else -1 for row in range(60)])
        far[known] = -1
        row = int(far.argmax())
        assert each.image == name(row)
        assert each.distance == pytest.approx(far[row], abs=1e-5)
        assert each.predicted is each.probability is each.uncertainty is None
        known.append(row)
    # test rows change nothing, wherever they are
    X[15:20] = 100 * rng.normal(size=(5, 6))
    again = suggest(write_vectors(tmp_path / "d.h5", X, labels=labels, split=split), n=5)
    assert [each.image for each in again.images] == [each.image for each in found.images]


def test_without_labels_the_seed_draws_the_first(tmp_path):
    cache = write_vectors(tmp_path / "c.h5", np.random.default_rng(0).normal(size=(40, 6)))
    first = [suggest(cache, n=4, seed=seed).images for seed in (0, 0, 1)]
    assert first[0] == first[1] != first[2]
    assert first[0][0].distance is None
    assert len({each.image for each in first[0]}) == 4


@pytest.mark.parametrize("measure", ["margin", "entropy"])
def test_the_least_certain_images_of_the_run_come_first(half, measure):
    cache, folder = half
    found = frostline.suggest(cache, n=10, run=folder, by="uncertainty", uncertainty=measure)
    head = frostline.load_run(folder).head()
    rows = np.flatnonzero(cache.labels < 0)
    proba = head.predict_proba(np.asarray(cache.features())[rows])
    top = np.sort(proba, axis=1)
    doubt = 1 - top[:, -1] + top[:, -2] if measure == "margin" else -(proba * np.log(proba)).sum(axis=1)
    order = np.argsort(-doubt, kind="stable")[:10]
    assert [each.image for each in found.images] == cache.ids[rows[order]].tolist()
    assert [each.predicted for each in found.images] == [head.classes[k] for k in proba[order].argmax(axis=1)]
    np.testing.assert_allclose([each.uncertainty for each in found.images], doubt[order])
    np.testing.assert_allclose([each.probability for each in found.images], proba[order].max(axis=1))
    both = suggest(cache, n=10, run=folder, pool=3, uncertainty=measure)
    assert both.by == "both"
    least = set(cache.ids[rows[np.argsort(-doubt, kind="stable")[:30]]].tolist())
    assert {each.image for each in both.images} <= least
    assert both.images[0] == found.images[0]


def test_the_manifest_is_filled_in_and_extracted(half, tmp_path):
    cache, folder = half
    found = suggest(cache, n=6, run=folder, with_labelled=True, out=tmp_path / "next")
    assert found.picture.exists()
    assert found.page.read_text("utf-8").count("<img ") == 6
    with found.listing.open(newline="") as file:
        assert [row["image"] for row in csv.DictReader(file)] == [each.image for each in found.images]
    lines = found.manifest.read_text().splitlines()
    assert lines[0] == "path,label,split"
    assert [line.split(",")[0] for line in lines[1:7]] == [each.image for each in found.images]
    assert all(line.split(",")[1] == "" for line in lines[1:7])
    filled = [line.replace(",,", ",7,", 1) if 0 < i < 7 else line for i, line in enumerate(lines)]
    with pytest.raises(OptionError, match="may hold labels that were filled in"):
        suggest(cache, n=6, out=tmp_path / "next")
    found.manifest.write_text("\n".join(filled) + "\n")
    run("extract", found.manifest, "--cache", tmp_path / "next.h5", *BACKBONE_OPTIONS)
    again = FeatureCache.open(tmp_path / "next.h5")
    assert again.rows == 66
    names = dict(zip(again.ids.tolist(), again.labels.tolist(), strict=True))
    assert all(again.classes[names[each.image]] == "7" for each in found.images)
    known = {
        str(cache.ids[row]): cache.classes[cache.labels[row]] for row in np.flatnonzero(cache.labels >= 0)
    }
    assert {image: again.classes[names[image]] for image in known} == known


def test_what_is_interrupted_while_it_draws_is_completed_by_the_next_run(half, tmp_path, monkeypatch):
    cache, _ = half

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("frostline.pipeline.exploring.outputs.plot_sheet", interrupt)
        with pytest.raises(KeyboardInterrupt):
            suggest(cache, 3, out=tmp_path / "next")
    found = suggest(cache, 3, out=tmp_path / "next")
    assert {found.listing, found.manifest, found.picture, found.page} == set((tmp_path / "next").iterdir())


def test_a_run_that_does_not_fit_is_refused(half, tmp_path):
    folder = half[1]
    labels = np.r_[np.zeros(5, int), np.full(5, -1)]
    other = write_vectors(tmp_path / "c.h5", np.random.default_rng(0).normal(size=(10, 32)), labels=labels)
    with pytest.raises(RunError, match=r"differ from those that .* was trained on"):
        suggest(other, run=folder)
    with pytest.raises(OptionError, match="both needs the predictions of a run"):
        suggest(other, by="both")
    with pytest.raises(OptionError, match="--by coreset compares vectors only"):
        suggest(other, by="coreset", run=folder)
    with pytest.raises(OptionError, match="reads its own layer"):
        suggest(other, by="uncertainty", run=folder, layer="embedding")


def test_two_caches_and_joined_layers(half, tmp_path):
    cache, _ = half
    second = extract(
        cache.source, cache=tmp_path / "b.h5", engine="eager", **BACKBONE | {"weights": "random:2"}
    ).cache
    named = f"{cache.path}+{second}"
    folder = train_head(named, "linear", params={"l2": 0.1}, run=tmp_path / "run").run
    found = suggest(named, n=4, run=folder)
    assert found.layer == "1/embedding+2/embedding"
    assert len(found.images) == 4
    assert len(suggest(named, n=4, layer="2/embedding").images) == 4
    with pytest.raises(RunError, match="got 1 caches, expected 2"):
        suggest(cache, n=4, run=folder)


def test_a_cache_in_bfloat16_gives_the_suggestions_of_its_values(tmp_path):
    X = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    labels = np.r_[np.arange(10) % 2, np.full(40, -1)]
    short = write_vectors(tmp_path / "b.h5", X, labels=labels, dtype="bfloat16")
    whole = write_vectors(tmp_path / "c.h5", short.features(), labels=labels)
    assert suggest(short, n=9).images == suggest(whole, n=9).images


def test_nothing_to_suggest_and_the_command(half, tmp_path):
    cache, folder = half
    full = write_vectors(tmp_path / "c.h5", np.eye(4), labels=[0, 1, 0, 1], failed=[2])
    with pytest.raises(
        SearchError, match=r"no image to suggest: 4 of its 4 images have a label, 1 could not be read"
    ):
        suggest(full)
    shown = run("suggest", cache.path, "-n", 3, "--run", folder)
    assert (
        f"3 of 60 unlabelled images by both in layer embedding; {suggest(cache, n=1).labelled}"
        in shown.stdout
    )
    document = json.loads(run("suggest", cache.path, "-n", 70, "--json").stdout)
    assert len(document["images"]) == 60
    assert document["images"][0]["predicted"] is None
    lines = run("suggest", cache.path, "-n", 70, "--format", "csv")
    assert lines.stdout.splitlines()[0] == "rank,image,split,distance,predicted,probability,uncertainty"
    assert "Only 60 images can be suggested, fewer than the 70 asked for." in lines.stderr
    wrong = run("suggest", cache.path, "--by", "uncertainty", code=2)
    assert "uncertainty needs the predictions of a run; name it with --run" in wrong.stderr


def test_the_table_shows_whole_class_names_and_rounded_numbers():
    image = Suggestion("a.jpg", "", 12.34567, "aeroplane", 0.99996, 0.12345)
    result = Suggestions(
        *(Path("c.h5"), Path("run"), "both", "embedding", 3, 9, 0, (image,)), None, None, None, None, 0.1
    )
    table = next(iter(_suggest_text(result)))
    assert table.headings == ["rank", "image", "distance", "predicted", "probability", "uncertainty"]
    assert table.rows == [["1", "a.jpg", "12.3457", "aeroplane", "1.0000", "0.1235"]]
