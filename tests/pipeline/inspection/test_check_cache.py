"""The leak guard: what train-head refuses, and what a check of a cache shows."""

import json

import numpy as np
import pytest
from PIL import Image

from frostline.classifiers.errors import SplitError
from frostline.classifiers.inspection.duplicates import NEAR
from frostline.features.cache import FeatureCache
from frostline.pipeline import LeakError, check_cache, evaluate, extract, few_shot, learning_curve, train_head
from frostline.pipeline.inputs.leaks import refuse_leaks
from frostline.splits import Split
from tests.helpers.runner import run

SPLITS = ("train", "val", "test")


def picture(seed, shift=0):
    pixels = np.random.default_rng(seed).integers(0, 200, (6, 6, 3), np.uint8)
    return Image.fromarray(pixels + np.uint8(shift)).resize((48, 48), Image.Resampling.BICUBIC)


def write(folder, images):
    """Images by name, e.g. ``train/a/1.png``; with four unlike ones of each class in each split."""
    own = {
        f"{split}/{name}/{number}.png": picture(100 + 40 * place + 10 * (name == "b") + number)
        for place, split in enumerate(SPLITS)
        for name in "ab"
        for number in range(4)
    }
    for name, image in (own | images).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return extract(
        folder, backbone="timm:test_resnet", weights="random", cache=folder.with_suffix(".h5"), batch_size=8
    ).cache


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return write(tmp_path_factory.mktemp("clean") / "data", {})


@pytest.fixture(scope="module")
def leaky(tmp_path_factory):
    images = {
        "train/a/same.png": picture(1),
        "test/b/same.png": picture(1),
        "train/a/near.png": picture(2),
        "val/a/near.png": picture(2, shift=1),
        "train/a/two.png": picture(3),
        "train/b/two.png": picture(3),
    }
    return write(tmp_path_factory.mktemp("leaky") / "data", images)


def test_clean_cache_passes(clean, tmp_path):
    found = check_cache(clean, threshold=0.999, out=tmp_path)
    assert (found.exact, found.groups, found.conflicts, found.near) == ((), (), (), ())
    assert (found.refusals, found.warnings, found.picture) == ((), (), None)
    assert found.counts == {"train": 8, "val": 8, "test": 8}
    assert not list(tmp_path.iterdir())
    data = FeatureCache.open(clean)
    assert refuse_leaks(data, data.split) == ()


def test_all_leaks_are_found_and_drawn(leaky, tmp_path):
    found = check_cache(leaky, threshold=0.99, out=tmp_path / "new")
    assert found.exact == (("test/b/same.png", "train/a/same.png"),)
    assert set(found.conflicts) == {
        ("test/b/same.png", "train/a/same.png"),
        ("train/a/two.png", "train/b/two.png"),
    }
    pairs = {(pair.image_a, pair.image_b): pair for pair in found.near}
    near = pairs["train/a/near.png", "val/a/near.png"]
    assert (near.split_a, near.split_b, near.label_a, near.label_b) == ("train", "val", "a", "a")
    assert 0.99 <= near.cosine < 1
    assert pairs["train/a/same.png", "test/b/same.png"].cosine == pytest.approx(1)
    assert len(found.refusals) == 1
    with Image.open(found.picture) as drawn:
        assert drawn.size[0] > 400


def test_train_head_refuses_shared_bytes_before_training(leaky, tmp_path):
    with pytest.raises(LeakError, match=r"(?s)test/b/same\.png, train/a/same\.png.*frostline cache check"):
        train_head(leaky, run=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_train_head_refuses_groups_in_two_splits(clean):
    data = FeatureCache.open(clean)
    groups = np.array([f"g{number}" for number in range(data.rows)])
    groups[np.flatnonzero(data.split == Split.TEST)[0]] = groups[np.flatnonzero(data.split == Split.TRAIN)[0]]
    with pytest.raises(LeakError, match="1 group is"):
        refuse_leaks(_With(data, groups=groups), data.split)


class _With:
    """A cache with some columns replaced; features and the labels of test rows must not be looked at."""

    def __init__(self, cache, **columns):
        self._cache, self._columns = cache, columns

    def __getattr__(self, name):
        if name in {"features", "layers"}:
            raise AssertionError("features were read")
        return self._columns[name] if name in self._columns else getattr(self._cache, name)


def test_contradicting_labels_warn_without_test_labels(leaky):
    data = FeatureCache.open(leaky)
    split = data.split.copy()
    split[list(data.ids).index("train/a/same.png")] = 0
    (warning,) = refuse_leaks(_With(data), split)
    assert "train/a/two.png, train/b/two.png" in warning
    labels = data.labels.copy()
    labels[split == Split.TEST] = 10**6  # an index out of range, were it used
    assert refuse_leaks(_With(data, labels=labels), split) == (warning,)


def test_command_lists_findings_and_sets_exit_code(clean, leaky):
    good = run("cache", "check", clean, "--threshold", "0.999")
    assert "same bytes in several splits: none" in good.stdout
    bad = run("cache", "check", leaky, "--threshold", "0.99", code=1)
    assert "train/a/near.png" in bad.stdout
    assert "\nWarning: " in bad.stdout
    assert "more than one split" in bad.stderr
    document = json.loads(run("cache", "check", leaky, "--json", code=1).stdout)
    assert document["threshold"] == NEAR
    assert document["near"][0]["cosine"] == pytest.approx(1)
    assert f"default: {NEAR}" in run("cache", "check", "--help").stdout


def test_class_missing_in_train_is_listed(tmp_path):
    cache = write(tmp_path / "data", {"val/c/1.png": picture(7), "test/c/2.png": picture(8)})
    found = check_cache(cache, threshold=0.999)
    assert found.missing == {"train": ("c",)}
    assert len(found.refusals) == 1
    assert "'c': labelled rows, but none in train" in found.refusals[0]
    with pytest.raises(SplitError, match="'c': labelled rows, but none in train"):
        train_head(cache, run=tmp_path / "run")


class Guarded:
    """Features of which no test row can be read."""

    def __init__(self, X, test):
        self._X, self._test, self.shape, self.dtype, self.reads = X, test, X.shape, X.dtype, 0

    def __getitem__(self, rows):
        assert isinstance(rows, np.ndarray), f"read by {rows!r}, not by explicit rows"
        assert not np.isin(rows, self._test).any(), f"test rows were read: {np.intersect1d(rows, self._test)}"
        self.reads += 1
        return self._X[rows]

    def __array__(self, *_args, **_kwargs):
        raise AssertionError("the whole array was read")


def test_only_evaluate_reads_test_rows(clean, tmp_path, monkeypatch):
    guards, original = [], FeatureCache.features

    def guarded(cache, *args, **options):
        guards.append(Guarded(original(cache, *args, **options), np.flatnonzero(cache.split == Split.TEST)))
        return guards[-1]

    monkeypatch.setattr(FeatureCache, "features", guarded)
    run = train_head(clean, run=tmp_path / "linear").run
    train_head(clean, "ridge", search="random", trials=2, run=tmp_path / "random")
    train_head(clean, "ridge", cv=2, run=tmp_path / "cv")
    quick = {"hidden": (4,), "epochs": 2}
    train_head(clean, "mlp", params=quick, search="random", trials=2, run=tmp_path / "mlp")
    few_shot(clean, "ridge", shots=[1], episodes=2, out=tmp_path / "few")
    learning_curve(clean, "ridge", points=2, draws=2, out=tmp_path / "curve")
    assert len(guards) == 10  # of six fits, and of the distances that four runs record
    assert all(guard.reads for guard in guards)
    with pytest.raises(AssertionError, match="test rows were read"):
        evaluate(run)  # the guard works
