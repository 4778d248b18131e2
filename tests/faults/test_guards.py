"""Guards that other rooms' tests do not hold, and the removal of each guard, which a test must notice."""

import os
import shutil
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest

from frostline.features.spec import FeatureSpec, Layer
from frostline.pipeline.errors import LeakError
from frostline.pipeline.inputs.learning_rows import LearningRows
from frostline.pipeline.progress import SILENT
from tests.faults.guards import GUARDS
from tests.faults.harness.records import record
from tests.faults.harness.world import EXTRACTION
from tests.features.cache.synthetic import SPEC
from tests.helpers.paths import ROOT

CHANGES = {
    "backbone": "test:other",
    "weights_sha256": "1" * 64,
    "transform": replace(SPEC.transform, interpolation="nearest"),
    "layers": (Layer("embedding", "none", 20),),
    "precision": "bf16",
    "dtype": "float16",
    "engine": "other",
    "device": "cuda",
    "decoder": "none 2.0",
    "versions": {"numpy": "3"},
    "views": 2,
    "seed": 1,
    "format_version": 0,
}


@pytest.mark.parametrize("name", [each.name for each in fields(FeatureSpec)])
def test_each_field_of_a_specification_changes_the_key(name):
    assert replace(SPEC, **{name: CHANGES[name]}).digest != SPEC.digest


class Images:
    """Labelled images without features."""

    path = "images"
    classes = ("a", "b")

    def __init__(self, content, split, groups=None):
        rows = len(content)
        self.content = np.array([[value] * 16 for value in content], np.uint8)
        self.split = np.array(split, np.uint8)
        self.labels = np.arange(rows) % 2
        self.groups = np.array(groups or [b""] * rows, "S8")
        self.ids = np.array([f"{row}.png" for row in range(rows)])
        self.ok = np.ones(rows, bool)


def test_copies_across_declared_splits_are_refused():
    with pytest.raises(LeakError, match=r"0\.png"):
        LearningRows.of(Images([1, 2, 3, 4, 1, 2], [1, 1, 2, 2, 3, 3]), (0.6, 0.2, 0.2), SILENT)


def test_groups_across_declared_splits_are_refused():
    groups = [b"one", b"two", b"one", b"two", b"", b""]
    with pytest.raises(LeakError):
        LearningRows.of(Images([1, 2, 3, 4, 5, 6], [1, 1, 2, 2, 3, 3], groups), (0.6, 0.2, 0.2), SILENT)


def test_copies_lie_in_one_fold():
    content = [1, 2, 3] * 4
    rows = LearningRows.of(Images(content, [1] * 12), (0.6, 0.2, 0.2), SILENT)
    for fitted, scored in rows.folds(2):
        ours, theirs = ({content[row] for row in part.tolist()} for part in (fitted, scored))
        assert not ours & theirs


def test_checksums_follow_the_data_to_the_disk(world):
    world.start("empty")
    events = world.run(*EXTRACTION).events
    syncs = [event for event in events if (event.kind, event.path) == ("fsync", "/d.h5.partial")]
    assert len(syncs) > 3  # two when the file is laid out, one when it is complete


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the checkout, whose guards can be removed."""
    copy = tmp_path_factory.mktemp("guards") / "checkout"
    ignored = shutil.ignore_patterns(".git", ".venv*", "*.egg-info", "__pycache__", ".*_cache", "benchmarks")
    shutil.copytree(ROOT, copy, symlinks=True, ignore=ignored)
    return copy


@pytest.mark.long
@pytest.mark.parametrize("guard", GUARDS, ids=str)
def test_a_removed_guard_is_noticed(checkout, guard):
    source = checkout / guard.file
    text = source.read_text(encoding="utf-8")
    assert text.count(guard.old) == 1, f"{guard.file} has {text.count(guard.old)} times:\n{guard.old}"
    source.write_text(text.replace(guard.old, guard.new), encoding="utf-8")
    tests = [name for name in guard.tests if (checkout / name).exists()]
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests],
            check=False,
            capture_output=True,
            text=True,
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"},
        )
    finally:
        source.write_text(text, encoding="utf-8")
    record("guards", guard.name, "noticed" if ran.returncode == 1 else "not noticed", 1)
    assert ran.returncode == 1, ran.stdout[-2000:] + ran.stderr[-2000:]
