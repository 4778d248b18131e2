"""What computing a cache took: kept row by row, through kills, growth and merges."""

import h5py
import pytest

from frostline.features.cache import FeatureCache, Part, merge_parts, open_writer
from frostline.features.cache.file.partial import partial_path
from frostline.features.errors import ChecksumError
from frostline.features.machine import describe_machine
from frostline.system import energy
from frostline.system.energy import EnergyMeter
from tests.features.cache.synthetic import (
    SPEC,
    MemorySource,
    computed,
    images,
    interrupted,
    labels_of,
    source,
)
from tests.helpers.caches import rewrite_as_version_1


def extract(path, images_, *, seconds, joules=0.0, batches=None, batch=32, **options):
    """Compute what is to do, or some batches of it, each row in so many seconds and joules."""
    with open_writer(path, SPEC, images_, machine="a test", **options) as writer:
        for start in list(range(0, len(writer.todo), batch))[:batches]:
            rows = writer.todo[start : start + batch]
            features, outcome = computed(SPEC, writer.source, rows)
            writer.put(rows, features, **outcome, seconds=seconds * len(rows), joules=joules * len(rows))
        return writer.finish() if batches is None else None


def test_the_time_of_every_run_counts_once(tmp_path):
    path = tmp_path / "a.h5"
    extract(path, source(600), seconds=0.5, batches=9)  # one block of 256 is committed, 32 rows are lost
    done = extract(path, source(600), seconds=0.25)
    assert (done.timing.images, done.timing.machine) == (600, "a test")
    assert done.timing.seconds == pytest.approx(256 * 0.5 + 344 * 0.25)
    assert done.timing.images_per_second == pytest.approx(600 / done.timing.seconds)
    assert done.info().timing == done.timing


def test_copied_rows_keep_their_time(tmp_path):
    path = tmp_path / "a.h5"
    extract(path, source(300), seconds=0.5)
    grown = images(310)
    done = extract(path, MemorySource(grown, labels=labels_of(grown)), seconds=0.25)
    assert done.timing.seconds == pytest.approx(300 * 0.5 + 10 * 0.25)


def test_energy_is_that_of_the_rows_it_was_counted_for(tmp_path):
    path = tmp_path / "a.h5"
    assert extract(path, source(300), seconds=0.5).timing.joules is None
    grown = images(310)
    done = extract(path, MemorySource(grown, labels=labels_of(grown)), seconds=0.25, joules=3.0)
    assert (done.timing.images, done.timing.joules) == (310, 3.0)


def zone(folder, joules):
    folder.mkdir(exist_ok=True)
    (folder / "max_energy_range_uj").write_text("262143000000\n")
    (folder / "energy_uj").write_text(f"{joules * 1_000_000}\n")


def test_processors_energy_is_counted_as_it_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "_POWERCAP", tmp_path)
    assert EnergyMeter("cpu").joules() == 0
    zone(tmp_path / "intel-rapl:0", 262_100)
    zone(tmp_path / "intel-rapl:1", 5)
    zone(tmp_path / "intel-rapl:0:0", 1)  # a part of the first
    (tmp_path / "intel-rapl:2").mkdir()  # not for this user
    meter = EnergyMeter("cpu")
    zone(tmp_path / "intel-rapl:0", 7)  # went round
    zone(tmp_path / "intel-rapl:1", 15)
    assert meter.joules() == 43 + 7 + 10
    assert meter.joules() == 0


def test_merged_parts_add_up(tmp_path):
    path = tmp_path / "a.h5"
    parts = [extract(path, source(600), seconds=0.5, part=Part(number, 2)).path for number in (1, 2)]
    merged = merge_parts(parts)
    assert merged.timing.seconds == pytest.approx(300)
    assert merged.timing.machine == "a test"


def test_timing_is_excluded_from_key_and_may_be_unknown(tmp_path):
    timed = extract(tmp_path / "a.h5", source(5), seconds=1.0)
    untimed = extract(tmp_path / "b.h5", source(5), seconds=0.0)
    assert timed.key == untimed.key
    assert untimed.timing is None


def test_file_without_timing_is_read_and_resumed(tmp_path):
    """As versions before it was recorded wrote them."""
    path = tmp_path / "a.h5"
    partial = interrupted(path, SPEC, source(600), 9).partial_path
    rewrite_as_version_1(partial)
    with h5py.File(partial, "r+") as file:
        del file["seconds"], file["joules"]
    done = extract(path, source(600), seconds=1.0)
    assert done.verify().ok
    assert done.timing is None
    grown = extract(path, source(601), seconds=1.0)  # copies from the one without
    assert (grown.timing.images, grown.timing.seconds) == (1, 1.0)


def test_a_file_without_checksums_of_the_timing_is_resumed_without_them(tmp_path):
    path = tmp_path / "a.h5"
    extract(path, source(600), seconds=0.5, batches=9)
    rewrite_as_version_1(partial_path(path))
    done = extract(path, source(600), seconds=0.25)
    assert done.verify().ok
    assert done.timing.seconds == pytest.approx(256 * 0.5 + 344 * 0.25)
    assert done.file.layout.version == 1


@pytest.mark.parametrize("name", ["seconds", "joules"])
def test_a_changed_time_or_energy_is_noticed(tmp_path, name):
    path = extract(tmp_path / "a.h5", source(600), seconds=0.5, joules=3.0).path
    with h5py.File(path, "r+") as file:
        file[name][300] = 7.0
    changed = FeatureCache.open(path)
    assert changed.verify().damaged == (("metadata", 256, 511),)
    with pytest.raises(ChecksumError, match="the metadata of rows 256-511 is damaged"):
        _ = changed.timing
    done = extract(path, source(600), seconds=0.25, joules=1.0, overwrite=True)
    assert done.verify().ok
    assert done.timing.seconds == pytest.approx(344 * 0.5 + 256 * 0.25)


def test_the_machine_is_named():
    name, _, cores = describe_machine("cpu").rpartition(", ")
    assert name
    assert cores.split()[0].isdigit()
    assert describe_machine("mps").endswith(", mps")
