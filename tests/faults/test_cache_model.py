"""A cache against a dictionary: images come, change and go, extractions are killed, resumed, divided and merged."""

import hashlib

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from PIL import Image

from frostline.features.cache import FeatureCache
from frostline.features.content import file_content
from tests.faults.harness.folders import is_leftover, state_of
from tests.faults.harness.interposition import Fault
from tests.faults.harness.records import record
from tests.faults.harness.world import EXTRACT, empty

NAMES = st.integers(0, 29).map(lambda number: f"class{number % 3}/{number:02}.png")
EXTRACTION = ("extract", "images", "--cache", "d.h5", *EXTRACT)


class CacheModel(RuleBasedStateMachine):
    """Images on the disk, and what a cache of them must hold."""

    world = None

    @initialize()
    def begin(self):
        empty(self.world.root)
        self.files, self.vectors = {}, {}
        for number in range(12):
            self._write(f"class{number % 3}/{number:02}.png", number)

    def _write(self, name, seed):
        path = self.world.root / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draw = np.random.default_rng(seed)
        Image.fromarray(draw.integers(0, 255, (8, 8, 3)).astype(np.uint8)).save(path)
        self.files[name] = path.read_bytes()

    @rule(name=NAMES, seed=st.integers(0, 40))
    def add_or_change(self, name, seed):
        self._write(name, seed)

    @rule(name=NAMES)
    def remove(self, name):
        if name in self.files and sum(each[:6] == name[:6] for each in self.files) > 1:
            (self.world.root / "images" / name).unlink()
            del self.files[name]

    @rule(at=st.integers(0, 140), mode=st.sampled_from(["before", "torn", "after"]))
    def extract_and_kill(self, at, mode):
        outcome = self.world.server.run(*EXTRACTION, fault=Fault(mode, at))
        assert outcome.killed or outcome.code in {0, 1}, str(outcome)
        self._cache_is_whole()

    @rule(rehash=st.booleans())
    def extract(self, rehash):
        outcome = self.world.server.run(*EXTRACTION, *(["--rehash"] if rehash else []))
        if outcome.code == 1 and "--overwrite" in outcome.stderr:  # taken for another data set
            outcome = self.world.server.run(*EXTRACTION, "--overwrite")
        assert outcome.code == 0, str(outcome)
        self._holds_all()

    @rule(at=st.integers(0, 200))
    def extract_in_parts_and_merge(self, at):
        outcome = self.world.server.run(
            *EXTRACTION, "--part", "1/2", "--overwrite", fault=Fault("before", at)
        )
        assert outcome.killed or outcome.code in {0, 1}, str(outcome)
        for number in (1, 2):
            outcome = self.world.server.run(*EXTRACTION, "--part", f"{number}/2", "--overwrite")
            if outcome.code == 1 and "too few" in outcome.stderr:
                return
            assert outcome.code == 0, str(outcome)
        parts = sorted(path.name for path in self.world.root.glob("d.h5.part-*-of-2"))
        if len(parts) == 2:  # the whole cache was complete otherwise
            outcome = self.world.server.run("cache", "merge", *parts, "--delete-parts", "--overwrite")
            assert outcome.code == 0, str(outcome)
        self._holds_all()

    def _cache_is_whole(self):
        path = self.world.root / "d.h5"
        if path.exists():
            assert FeatureCache.open(path).verify().ok

    def _holds_all(self):
        cache = FeatureCache.open(self.world.root / "d.h5")
        assert cache.verify().ok
        assert list(cache.ids) == sorted(self.files)
        assert cache.content.tobytes() == b"".join(
            file_content(self.files[name]) for name in sorted(self.files)
        )
        classes = [cache.classes[label] for label in cache.labels]
        assert classes == [name[:6] for name in sorted(self.files)]
        for name, row in zip(sorted(self.files), cache.features(), strict=True):
            digest = hashlib.sha256(self.files[name]).digest()
            np.testing.assert_allclose(row, self.vectors.setdefault(digest, np.array(row)), atol=1e-5)
        left = [name for name in state_of(self.world.root) if is_leftover(name) and "images/" not in name]
        assert left == []
        record("model", "extract", "compared with the dictionary", 1)


def run(world, examples, steps):
    machine = type("CacheModel", (CacheModel,), {"world": world})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_cache_holds_what_the_dictionary_holds(world):
    run(world, examples=2, steps=8)


@pytest.mark.long
def test_a_cache_holds_what_the_dictionary_holds_after_many_steps(world):
    run(world, examples=40, steps=20)
