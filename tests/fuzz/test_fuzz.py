"""The short form of the fuzzing: seeds, all inputs that were ever found, and some thousand changes, the same each time."""

import json
import random
import shutil
import tempfile
from pathlib import Path

import pytest

from frostline.features.sources.opening import SOURCES
from frostline.pipeline.importing.importers import IMPORTERS
from tests.fuzz import seeds
from tests.fuzz.__main__ import COUNTS, FINDINGS, folder_name, found, table
from tests.fuzz.mutations import mutate_bytes
from tests.fuzz.targets import NAMES, make_targets

FEW = {
    **dict.fromkeys((f"labels of vectors, {name}" for name in seeds.BESIDE), 100),
    "cache": 100,
    "image": 200,
    "weights, torch": 150,
    "head.skops": 100,
    "run.json": 150,
}
CHANGES = 250  # of any other target
KINDS = {
    "array": "arrays, ",
    "archive": "archive, ",
    "folder": "image",
    "manifest": "manifest",
    "table": "table, ",
    "remote": "",  # the bytes that it brings are read by the others
    "torchvision": "",  # read by these libraries
    "hugging-face": "",
}
"""Begin of the names of the targets of each kind of source."""


@pytest.fixture(scope="module")
def targets():
    memory = Path("/dev/shm")  # noqa: S108  # the folder made in it has a name of its own
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    yield make_targets(folder)
    shutil.rmtree(folder)


def test_every_target_is_named(targets):
    assert tuple(targets) == NAMES
    known = {folder_name(name) for name in NAMES}
    assert {path.name for path in FINDINGS.glob("*")} <= known


@pytest.mark.parametrize("name", IMPORTERS.builtin)
def test_every_importer_is_fuzzed(name):
    assert any(file.endswith(IMPORTERS.load(name).suffixes) for file, _ in seeds.VECTORS.values())


@pytest.mark.parametrize("kind", SOURCES.builtin)
def test_every_kind_of_source_is_fuzzed(kind):
    begins = KINDS[kind]
    assert not begins or any(name.startswith(begins) for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_seeds_are_accepted(name, targets):
    if name.startswith("manifest"):
        pytest.skip("its images are not there, which is an error")
    assert all(targets[name].run(seed) for seed in targets[name].seeds)


@pytest.mark.parametrize("name", NAMES)
def test_whatever_was_found_is_mended(name, targets):
    for path in found(name):
        targets[name].run(path.read_bytes())


@pytest.mark.parametrize("name", NAMES)
def test_changed_files_end_in_an_error_of_frostline_or_a_result(name, targets):
    target, rng = targets[name], random.Random(0)  # noqa: S311
    refused = 0
    for number in range(FEW.get(name, CHANGES)):
        data = rng.choice(target.seeds)
        for _ in range(rng.choice((1, 1, 2))):
            data = (target.mutate if number % 3 else mutate_bytes)(data, rng)
        refused += not target.run(data)
    assert refused > FEW.get(name, CHANGES) // 20


def test_the_table_of_counts_is_that_of_the_counts():
    assert (COUNTS.parent / "README.md").read_text() == table(json.loads(COUNTS.read_text()))
