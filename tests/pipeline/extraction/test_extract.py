"""What extract refuses, replaces, reports and resumes."""

import signal
import subprocess
import sys
import time

import numpy as np

from frostline.features.cache import FeatureCache
from frostline.features.engines.eager import EagerEngine
from frostline.pipeline import extract
from tests.helpers.network import BACKBONE, BACKBONE_OPTIONS
from tests.helpers.runner import run


def test_an_unreadable_image_is_reported_and_shifts_nothing(ten_digits, tmp_path):
    data = tmp_path / "data"
    for path in sorted(ten_digits.glob("*/*")):
        (data / path.parent.name).mkdir(parents=True, exist_ok=True)
        (data / path.parent.name / path.name).write_bytes(path.read_bytes())
    bad = sorted(data.glob("*/*"))[5]
    bad.write_bytes(b"not an image")
    arguments = ("extract", data, *BACKBONE_OPTIONS, "--cache", tmp_path / "c.h5")
    refused = run(*arguments, "--max-bad", "0.001", code=1)
    assert bad.name in refused.stderr
    assert "--max-bad" in refused.stderr
    kept = run(*arguments, "--max-bad", "0.5")
    assert bad.name in kept.stdout
    cache = FeatureCache.open(tmp_path / "c.h5")
    assert np.flatnonzero(~cache.ok).tolist() == [5]
    assert np.isnan(cache.features()[5]).all()
    assert np.isfinite(cache.features()[cache.ok]).all()


def test_a_cache_of_other_settings_is_refused_by_field(ten_digits, ten_cache):
    refused = run(
        "extract", ten_digits, *BACKBONE_OPTIONS, "--layer", "layer3:avg", "--cache", ten_cache, code=1
    )
    assert "layers" in refused.stderr
    assert "--overwrite" in refused.stderr


def test_a_limited_extraction_never_replaces_a_larger_cache(ten_digits, ten_cache, tmp_path):
    before = ten_cache.read_bytes()
    refused = run("extract", ten_digits, *BACKBONE_OPTIONS, "--cache", ten_cache, "--limit", "20", code=1)
    assert "--overwrite" in refused.stderr
    assert ten_cache.read_bytes() == before
    few = tmp_path / "few.h5"
    run("extract", ten_digits, *BACKBONE_OPTIONS, "--cache", few, "--limit", "20")
    labels = FeatureCache.open(few).labels
    assert len(labels) == 20
    assert set(labels.tolist()) == set(range(10))


def test_a_cache_of_another_decoder_is_another_cache(ten_digits, ten_cache):
    refused = run("extract", ten_digits, *BACKBONE_OPTIONS, "--decoder", "fast", "--cache", ten_cache, code=1)
    assert "decoder: " in refused.stderr
    assert "resized by torch" in refused.stderr


def test_sigterm_leaves_a_cache_that_the_next_run_finishes(ten_digits, tmp_path):
    cache = tmp_path / "c.h5"
    data = tmp_path / "many"
    for copy in range(3):
        for path in ten_digits.glob("*/*"):
            target = data / path.parent.name / f"{copy}-{path.name}"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    command = [
        sys.executable,
        "-m",
        "frostline",
        "extract",
        str(data),
        *BACKBONE_OPTIONS,
        "--cache",
        str(cache),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    partial = cache.with_name("c.h5.partial")
    while process.poll() is None and not partial.exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    if process.returncode:  # a quick machine may have finished before the signal came
        assert process.returncode == 143
        assert b"Interrupted" in errors
        assert not cache.exists()
    run(*command[3:])
    whole = tmp_path / "whole.h5"
    run("extract", data, *BACKBONE_OPTIONS, "--cache", whole)
    one, other = FeatureCache.open(cache), FeatureCache.open(whole)
    assert (one.ids == other.ids).all()
    assert one.features().tobytes() == other.features().tobytes()


def test_views_are_extracted_side_by_side_and_resumed_by_bytes(ten_digits, tmp_path):
    path, again = tmp_path / "views.h5", tmp_path / "again.h5"
    run("extract", ten_digits, *BACKBONE_OPTIONS, "--cache", path, "--views", 3, "--seed", 5, "--quiet")
    cache = FeatureCache.open(path)
    assert (cache.spec.views, cache.spec.seed) == (3, 5)
    run(
        "extract",
        ten_digits,
        *BACKBONE_OPTIONS,
        "--cache",
        again,
        "--views",
        3,
        "--seed",
        5,
        "--batch-size",
        4,
        "--quiet",
    )
    for view in range(3):
        assert np.allclose(cache.features(view=view), FeatureCache.open(again).features(view=view), atol=1e-4)
    plain = tmp_path / "plain.h5"
    run("extract", ten_digits, *BACKBONE_OPTIONS, "--cache", plain, "--quiet")
    assert np.allclose(cache.features(), FeatureCache.open(plain).features(), atol=1e-4)
    assert not np.allclose(cache.features(view=1), cache.features(view=2), atol=1e-2)
    refused = run("extract", ten_digits, *BACKBONE_OPTIONS, "--cache", path, "--views", 2, "--quiet", code=1)
    assert "views" in refused.stderr


def test_a_batch_holds_all_views_of_an_image(ten_digits, tmp_path):
    path = tmp_path / "views.h5"
    options = (
        "extract",
        ten_digits,
        *BACKBONE_OPTIONS,
        "--cache",
        path,
        "--limit",
        4,
        "--views",
        33,
        "--quiet",
    )
    refused = run(*options, "--batch-size", 32, code=1)
    assert "batch size 32; expected at least 33; a batch must hold the 33 views of an image" in refused.stderr
    run(*options)
    assert FeatureCache.open(path).spec.views == 33


def test_missing_files_take_no_forward_pass(ten_digits, tmp_path, monkeypatch):
    passes = []
    forward = EagerEngine._forward
    monkeypatch.setattr(
        EagerEngine, "_forward", lambda self, pixels: passes.append(len(pixels)) or forward(self, pixels)
    )
    images = sorted(ten_digits.glob("*/*"))[:3]
    counts = []
    for missing in (0, 500):
        rows = (
            [f"{path},x" for path in images[:2]]
            + [f"gone{n}.png,y" for n in range(missing)]
            + [f"{images[2]},y"]
        )
        (tmp_path / "m.csv").write_text("\n".join(["path,label", *rows]))
        passes.clear()
        result = extract(
            tmp_path / "m.csv",
            cache=tmp_path / f"{missing}.h5",
            max_bad=1,
            batch_size=16,
            engine="eager",
            precision="fp32",
            **BACKBONE,
        )
        counts.append(len(passes))
        assert (result.failed, result.computed) == (missing, missing + 3)
        cache = FeatureCache.open(result.cache)
        assert cache.ok.sum() == 3
        assert np.isnan(cache.features()[~cache.ok]).all()
        assert np.isfinite(cache.features()[cache.ok]).all()
    assert counts[1] <= counts[0] + 1  # that of the batch in which both kinds lie
