"""Predictions from the rows of a cache and from arrays: those of the head, and only on features that fit the run."""

import csv
import io
import warnings

import numpy as np
import pytest
import torch

from frostline import (
    FeatureCache,
    LeakError,
    OptionError,
    RunError,
    check_cache,
    evaluate,
    load_run,
    predict,
    train_head,
)
from frostline.pipeline import compare, finetune, write_report
from frostline.pipeline.errors import FinetuneError
from tests.helpers.network import BACKBONE
from tests.helpers.runner import run

RNG = np.random.default_rng(0)
LABELS = np.arange(120) % 3
X = (RNG.normal(size=(120, 6)) + 4 * np.eye(6)[LABELS]).astype(np.float32)
NEW = (RNG.normal(size=(9, 6)) + 4 * np.eye(6)[np.arange(9) % 3]).astype(np.float32)


def cache_of(path, rows=X, **options):
    return FeatureCache.from_arrays(path, rows, **{"name": "toy", "declared": {"model": "m"}, **options})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vectors")
    cache_of(folder / "c.h5", labels=LABELS)
    train_head(folder / "c.h5", "logreg", run=folder / "run")
    return folder


def expected(folder, rows):
    return load_run(folder / "run").head().predict_proba(rows)


def test_rows_of_a_cache_get_the_predictions_of_the_head(folder, tmp_path):
    rows = NEW.copy()
    rows[4, 2] = np.nan
    cache = cache_of(tmp_path / "n.h5", rows, ids=[f"n{number}" for number in range(9)], max_bad=1)
    found = predict(folder / "run", cache=cache.path)
    assert [each.image for each in found] == [f"n{number}" for number in range(9)]
    good = np.arange(9) != 4
    probabilities = expected(folder, NEW[good])
    assert [each.label for each in found if each.error is None] == [
        str(k) for k in probabilities.argmax(axis=1)
    ]
    assert np.allclose([each.probability for each in found if each.error is None], probabilities.max(axis=1))
    assert "1 of 6 values are not finite" in found[4].error
    shown = run("predict", folder / "run", "--cache", cache.path, code=1)
    rows = list(csv.DictReader(io.StringIO(shown.stdout)))
    assert [row["label"] for row in rows] == [each.label or "" for each in found]
    assert "1 of 9 rows have no features" in shown.stderr


@pytest.mark.parametrize(
    "form", [np.asarray, torch.from_numpy, lambda rows: {"embedding": rows}, lambda rows: rows.astype(float)]
)
def test_arrays_get_the_predictions_of_the_head(folder, form):
    found = predict(folder / "run", features=form(NEW))
    assert np.allclose([each.probability for each in found], expected(folder, NEW).max(axis=1))
    assert found[0].image == "00000000"


def test_rows_of_arrays_that_are_not_finite_get_a_reason(folder):
    rows = NEW.copy()
    rows[3] = np.inf
    rows = rows.astype(float)
    rows[5, :2] = 1e300
    kept = rows.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = predict(folder / "run", features=rows)
    assert [each.error for each in found if each.error] == [
        "embedding: 6 of 6 values are not finite",
        "embedding: 2 of 6 values overflow float32",
    ]
    assert np.array_equal(rows, kept)


def test_masked_values_are_missing(folder):
    mask = np.zeros(NEW.shape, bool)
    mask[2, 1] = True
    found = predict(folder / "run", features=np.ma.MaskedArray(NEW, mask))
    assert [number for number, each in enumerate(found) if each.error] == [2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "got none of them"),
        ({"images": "x.png", "features": NEW}, "got images and features"),
        ({"features": NEW[:, :3]}, r"shape \(9, 3\), expected \(n, 6\)"),
        ({"features": {"other": NEW}}, "got other, expected the layers embedding"),
        ({"features": {"embedding": NEW[:, :2]}}, r"embedding: got shape \(9, 2\)"),
        ({"features": np.array([["a"]])}, "^features: got <U1, expected an"),
        ({"features": [[1.0, 2.0], [3.0]]}, "features: expected rows of the same length"),
        ({"features": {}}, "got no layer, expected the layers embedding"),
        ({"features": (row for row in NEW)}, "features: got generator, expected an"),
        ({"features": torch.from_numpy(NEW).to_sparse()}, "features: got a tensor of"),
        ({"features": np.full((2, 6), 2**24 + 1)}, "got the integer 16777217"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(folder, options, message):
    with pytest.raises(OptionError, match=message):
        predict(folder / "run", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "other"}, r"backbone: trained on 'imported:toy', the cache has 'imported:other'"),
        ({"declared": {"model": "n"}}, r"versions\.declared\.model: trained on 'm', the cache has 'n'"),
        ({"dtype": "float16"}, "dtype: trained on 'float32'"),
        ({"rows": NEW[:, :4]}, "embedding: trained on 6 numbers, the cache has 4"),
        ({"rows": {"other": NEW}}, "layers: trained on 'embedding'"),
    ],
)
def test_vectors_of_something_else_are_refused(folder, tmp_path, options, message):
    cache = cache_of(tmp_path / "n.h5", **{"rows": NEW, **options})
    with pytest.raises(RunError, match=message):
        predict(folder / "run", cache=cache.path)
    with pytest.raises(RunError, match=message):
        evaluate(folder / "run", cache.path)


def test_imported_and_extracted_features_are_never_used_together(folder, ten_cache, ten_run):
    with pytest.raises(RunError, match="never used together"):
        predict(folder / "run", cache=ten_cache)
    with pytest.raises(
        RunError, match=r"holds vectors that were imported toy, declared model=m, and .* features of timm:"
    ):
        predict(ten_run, cache=folder / "c.h5")


def test_rows_of_an_extracted_cache_are_predicted_as_its_images(ten_cache, ten_run, ten_digits):
    found = {each.image: each for each in predict(ten_run, cache=ten_cache)}
    cache = FeatureCache.open(ten_cache)
    assert set(found) == set(cache.ids)
    image = str(cache.ids[7])
    (of_image,) = predict(ten_run, [ten_digits / image], engine="eager")
    assert of_image.label == found[image].label
    assert of_image.probability == pytest.approx(found[image].probability, abs=1e-3)


def test_a_head_on_side_columns_reads_those_of_the_cache(tmp_path, ten_digits):
    names = [path.relative_to(ten_digits).as_posix() for path in sorted(ten_digits.rglob("*.png"))]
    lines = [f"{ten_digits / name},{name.split('/')[-2]},{number % 7}" for number, name in enumerate(names)]
    manifest = tmp_path / "m.csv"
    manifest.write_text("\n".join(["path,label,age", *lines]))
    ids = [str(ten_digits / name) for name in names]
    rows = RNG.normal(size=(len(names), 6)).astype(np.float32)
    cache = cache_of(tmp_path / "c.h5", rows, ids=ids, images=manifest)
    assert [*cache.columns] == ["age"]
    made = train_head(cache.path, "ridge", with_columns=["age"], run=tmp_path / "run")
    found = predict(made.run, cache=cache.path)
    head = load_run(made.run).head()
    given = np.concatenate(
        [cache.features(), head.columns.encode(cache.columns, np.arange(len(names)))], axis=1
    )
    assert [each.label for each in found] == [head.classes[k] for k in head.predict(given)]
    with pytest.raises(OptionError, match="side columns"):
        predict(made.run, features=rows)


def test_what_needs_the_backbone_says_that_there_is_none(folder, tmp_path, few_digits):
    with pytest.raises(RunError, match=r"imported toy, declared model=m.*predict .* --cache NEW\.h5"):
        predict(folder / "run", few_digits)
    with pytest.raises(FinetuneError, match=r"imported toy.*there is no network to fine-tune"):
        finetune(few_digits, from_run=folder / "run", run=tmp_path / "t", **BACKBONE)


def test_runs_on_imported_vectors_are_judged_and_shown_like_others(folder, tmp_path):
    evaluated = train_head(folder / "c.h5", "ridge", run=tmp_path / "run").run
    assert evaluate(evaluated).metrics.top1.value > 0.8
    board = compare([evaluated, folder / "run"])
    assert not any("computed in different ways" in note for note in board.notes)
    page = write_report([evaluated], out=tmp_path / "r.html").path.read_text()
    assert "imported toy, declared model=m" in page
    assert "frostline cache import FILE" in page


def test_joined_caches_are_matched_by_ids_that_were_given(folder, tmp_path):
    ids = [f"n{number:03}" for number in range(120)]
    order = RNG.permutation(120)
    cache_of(tmp_path / "a.h5", ids=ids, labels=LABELS)
    cache_of(
        tmp_path / "b.h5", X[order] * 2, name="two", ids=[ids[row] for row in order], labels=LABELS[order]
    )
    joined = f"{tmp_path / 'a.h5'}+{tmp_path / 'b.h5'}"
    made = train_head(joined, "ridge", run=tmp_path / "run")
    assert made.layer == "1/embedding+2/embedding"
    found = predict(made.run, cache=joined)
    both = predict(made.run, features={"1/embedding": X, "2/embedding": X * 2})
    assert [each.label for each in found] == [each.label for each in both]
    with pytest.raises(RunError, match="imported without ids"):
        train_head(f"{folder / 'c.h5'}+{tmp_path / 'a.h5'}", "ridge", run=tmp_path / "no")


def test_equal_vectors_in_several_splits_are_refused_and_named_for_what_they_are(tmp_path):
    rows, split = X.copy(), np.array(["train", "val", "test"])[np.arange(120) // 3 % 3]
    rows[9] = rows[0]
    split[[0, 9]] = "train", "test"
    cache = cache_of(tmp_path / "c.h5", rows, labels=LABELS, split=split)
    with pytest.raises(LeakError, match=r"equal vectors count as equal images.*--images"):
        train_head(cache.path, "ridge", run=tmp_path / "run")
    found = check_cache(cache.path)
    assert found.exact == (("00000000", "00000009"),)
    assert any("equal vectors count" in warning for warning in found.warnings)
