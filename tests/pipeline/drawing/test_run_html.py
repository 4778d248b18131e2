"""Runs in notebooks: settings, scores and classes, escaped, with thumbnails if the cache is there."""

import dataclasses

import msgspec

from frostline import load_run
from frostline.features.cache import FeatureCache
from frostline.pipeline import train_head


def test_run_shows_how_it_was_trained_and_images_of_its_data(ten_cache, ten_run):
    run = load_run(ten_run)
    text = run._repr_html_()
    assert f"Run {ten_run.name}" in text
    assert "linear (" in text
    assert f"accuracy {run.record.metrics.validation.accuracy:.4g}" in text
    assert text.count("<img src='data:image/webp;base64,") == 8
    counts = run.record.split.counts
    assert f"{counts.train:,} train, {counts.val:,} val, {counts.test:,} test" in text
    assert str(FeatureCache.open(ten_cache).source) in text


def test_names_are_escaped_and_a_missing_cache_is_named(ten_cache, tmp_path):
    run = load_run(train_head(ten_cache, "ridge", run=tmp_path / "run").run)
    (recorded,) = run.record.caches
    moved = msgspec.structs.replace(recorded, path="/nowhere/c.h5", source="<script>x</script>")
    record = msgspec.structs.replace(run.record, caches=(moved,), classes=("<b>", *run.record.classes[1:]))
    text = dataclasses.replace(run, record=record)._repr_html_()
    assert "<script>" not in text
    assert "<b>" not in text
    assert "&lt;script&gt;" in text
    assert "the cache of this run is missing or has changed" in text
    assert "<img" not in text
