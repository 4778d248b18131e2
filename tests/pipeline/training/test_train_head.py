"""What train-head writes, keeps and reads."""

import csv
import json

import numpy as np

from frostline.features.cache import FeatureCache
from frostline.splits import Split
from tests.helpers.runner import run


def test_a_run_is_never_overwritten(ten_cache, ten_run):
    before = (ten_run / "run.json").read_bytes()
    assert "never overwritten" in run("train-head", ten_cache, "--run", ten_run, code=1).stderr
    assert (ten_run / "run.json").read_bytes() == before


def test_a_search_is_told_drawn_and_kept(ten_cache, tmp_path):
    trained = tmp_path / "searched"
    arguments = (
        "train-head",
        ten_cache,
        "--head",
        "ridge",
        "--search",
        "random",
        "--trials",
        "3",
        "--cv",
        "3",
    )
    told = run(*arguments, "--run", trained)
    assert "The best 3 of 3 trials" in told.stdout
    record = json.loads((trained / "run.json").read_text())
    with (trained / "search.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["alpha"]) for row in rows] == [trial["alpha"] for trial in record["trials"]]
    assert record["head"]["params"]["alpha"] in [trial["alpha"] for trial in record["trials"]]
    assert (trained / "search.png").stat().st_size > 0
    assert list(tmp_path.iterdir()) == [trained]  # the journal is gone
    assert "add --search or --cv" in run("train-head", ten_cache, "--trials", "3", code=2).stderr


def test_a_search_reads_train_and_val_rows_alone(ten_cache, tmp_path, monkeypatch):
    from frostline.pipeline import split_rows
    from frostline.pipeline import train_head as train

    data = FeatureCache.open(ten_cache)
    split, _ = split_rows(data)
    features = data.features().copy()
    features[split == Split.TEST] = np.nan  # whoever reads them fails
    monkeypatch.setattr(FeatureCache, "features", lambda *_args, **_options: features)
    done = train(data, "ridge", search="grid", cv=3, run=tmp_path / "run")
    assert done.validation["accuracy"] > 0
