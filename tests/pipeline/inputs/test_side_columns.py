"""Heads that read side columns beside the features, from the manifest to the prediction of new images."""

import json

import numpy as np
import pytest

from frostline.classifiers.errors import ClassifiersError
from frostline.features.cache import FeatureCache
from frostline.pipeline import evaluate, extract, few_shot, finetune, predict, train_head
from frostline.pipeline.errors import FinetuneError
from frostline.pipeline.inputs.side_columns import head_rows
from frostline.pipeline.runs.run import load_run
from frostline.pipeline.runs.summary import summarise
from tests.helpers.network import BACKBONE


@pytest.fixture(scope="module")
def told(ten_digits, tmp_path_factory):
    """A cache of digits whose label is told by a side column, and its manifest."""
    folder = tmp_path_factory.mktemp("told")
    lines = ["path,label,hint,site,note"]
    for number, path in enumerate(sorted(ten_digits.rglob("*.png"))):
        label = path.parent.name
        lines.append(f"{path},{label},h{label},{number % 7},n{number}")
    (folder / "m.csv").write_text("\n".join(lines))
    return extract(folder / "m.csv", cache=folder / "m.h5", **BACKBONE).cache, folder / "m.csv"


def test_a_head_reads_what_only_a_column_tells(told, tmp_path):
    cache, manifest = told
    plain = train_head(cache, "linear", run=tmp_path / "plain")
    joined = train_head(cache, "linear", with_columns=["hint,site"], run=tmp_path / "joined")
    assert plain.validation["accuracy"] < 0.9 < joined.validation["accuracy"]
    run = load_run(joined.run)
    assert run.record.options["with_columns"] == ["hint,site"]
    assert summarise(joined.run).columns == ("hint,site",)
    head = run.head()
    assert head.columns.names == ("hint", "site")
    assert run.record.head.width == head.width == head.dim + head.columns.width
    opened = FeatureCache.open(cache)
    expected = head.predict_proba(head_rows(opened, run.layer, head.columns)[:])
    assert evaluate(joined.run).metrics.top1.value > 0.9
    found = predict(joined.run, images=manifest)
    by_name = {each.image: each.probability for each in found}
    ours = [by_name[name] for name in opened.ids]
    np.testing.assert_allclose(ours, expected.max(axis=1), atol=1e-5)


def test_a_projection_reads_the_features_alone(told, tmp_path):
    cache, _ = told
    run = train_head(cache, "ridge", with_columns=["hint"], project="pca:8", run=tmp_path / "run").run
    head = load_run(run).head()
    assert head.projection.mean.shape == (head.dim,)
    assert head.width == 8 + head.columns.width
    assert evaluate(run).metrics.top1.value > 0.9


def test_the_search_and_the_samples_read_the_columns(told, tmp_path):
    cache, _ = told
    found = train_head(
        cache, "linear", with_columns=["hint"], search="random", trials=2, run=tmp_path / "search"
    )
    assert found.validation["accuracy"] > 0.9
    shots = {
        columns: few_shot(
            cache, "ridge", with_columns=columns, shots=[2], episodes=3, out=tmp_path / f"shots{len(columns)}"
        )
        for columns in ((), ("hint",))
    }
    assert shots["hint",].scores[0].accuracy > shots[()].scores[0].accuracy + 0.05
    document = json.loads((shots["hint",].folder / "few-shot.json").read_text())
    assert document["columns"] == ["hint"]


def test_images_without_the_columns_are_refused(told, ten_digits, tmp_path):
    cache, _ = told
    run = train_head(cache, "ridge", with_columns=["hint"], run=tmp_path / "run").run
    with pytest.raises(
        ClassifiersError, match=r"0000\.png and 119 more: has no column 'hint'.*no side columns"
    ):
        predict(run, images=[ten_digits])
    other = extract(ten_digits, cache=tmp_path / "other.h5", **BACKBONE).cache
    with pytest.raises(ClassifiersError, match=r"other\.h5: has no column 'hint'"):
        evaluate(run, other)


def test_fine_tuning_does_not_start_from_a_head_with_columns(told, ten_digits, tmp_path):
    cache, _ = told
    run = train_head(cache, "linear", with_columns=["hint"], run=tmp_path / "run").run
    with pytest.raises(FinetuneError, match="without projection and side columns"):
        finetune(ten_digits, run=tmp_path / "tuned", from_run=run)


def test_a_column_that_is_not_there_is_named_before_any_work(told, tmp_path):
    cache, _ = told
    with pytest.raises(ClassifiersError, match="no side column 'hints'; got 'hint', 'site', 'note'"):
        train_head(cache, "ridge", with_columns=["hints"], run=tmp_path / "run")
    assert not (tmp_path / "run").exists()
