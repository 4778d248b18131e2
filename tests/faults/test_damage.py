"""Damaged files are found and named, or the damage means nothing: no traceback, and no result that changed in silence."""

import pytest

from tests.faults.damage import Read, Reading, flipped, flips, structural
from tests.faults.harness.records import record
from tests.faults.harness.world import EXPORT, EXTRACT, EXTRACTION, IMPORT

SHARDS = 3
FLIPS = 160
"""Bytes of a file that are flipped in the long form, evenly spaced; all of a smaller file."""

_RUN_FILES = ("run.json", "head.json", "head.safetensors", "split.safetensors", "SHA256SUMS")
_RESULTS = ("evaluation.json", "test_predictions.csv", "validation_predictions.csv", "ledger.jsonl")
_VERIFY = ("verify", "run")
_EVALUATE = ("evaluate", "run", "--json")
_COMPARE = ("compare", "run", "other", "--json")
_REPORT = ("report", "run", "other", "--out", "report.html")
_PREDICT = ("predict", "run", "../data/class0", "--json", "--engine", "eager")
_EXPORT = (*EXPORT, "--to", "csv")
_SUGGEST = ("suggest", "d.h5", "--run", "run", "-n", "3", "--out", "n.csv")
_MAP = ("map", "d.h5", "--run", "run", "--out", "m.csv")
_IMAGES = ("--cache", "n.h5", *EXTRACT)
_TRAIN = ("train-head", "d.h5", "--head", "centroid", "--run", "new", "--json")

READS = (
    *(Read("two runs", f"run/{name}", _EVALUATE) for name in (*_RUN_FILES, "ledger.jsonl")),
    *(Read("two runs", f"run/{name}", _COMPARE) for name in ("run.json", *_RESULTS[:3])),
    *(Read("two runs", f"run/{name}", _REPORT) for name in ("run.json", "head.json", *_RESULTS)),
    *(Read("two runs", f"run/{name}", _PREDICT) for name in ("run.json", "head.json", "head.safetensors")),
    Read("two runs", "run/rejection.safetensors", (*_PREDICT, "--reject", "0.5")),
    *(Read("two runs", f"run/{name}", _VERIFY, finds=True) for name in (*_RUN_FILES[:4], *_RESULTS[:3])),
    Read("cache", "d.h5", _TRAIN),
    Read("cache", "d.h5", ("rank", "d.h5", "--json")),
    Read("cache", "d.h5", ("cache", "info", "d.h5", "--json")),
    Read("cache", "d.h5", ("cache", "check", "d.h5", "--json")),
    Read("cache", "d.h5", ("cache", "verify", "d.h5")),
    Read("run", "d.h5", _EVALUATE),
    Read("imported", "i.h5", ("predict", "run", "--cache", "i.h5", "--json")),
    Read(
        "side columns",
        "d.h5",
        ("train-head", "d.h5", "--with-columns", "age,camera", "--run", "new", "--json"),
    ),
    *(
        Read("cache", "d.h5", arguments)
        for arguments in (
            _EXPORT,
            ("few-shot", "d.h5", "--head", "centroid", "--shots", "1", "--episodes", "2", "--out", "s"),
            ("learning-curve", "d.h5", "--head", "centroid", "--points", "2", "--draws", "2", "--out", "c"),
            ("label-errors", "d.h5", "--head", "centroid", "--folds", "2", "--out", "l"),
            ("search", "d.h5", "--row", "class1/03.png", "-k", "3", "--out", "n.csv"),
            ("dedupe", "d.h5", "--list", "l.csv"),
            ("outliers", "d.h5", "--top", "2", "--no-images", "--out", "o.csv"),
            ("clusters", "d.h5", "--count", "3", "--out", "g.csv"),
        )
    ),
    Read("partly labelled", "d.h5", _SUGGEST),
    *(Read("partly labelled", f"run/{name}", _SUGGEST) for name in ("run.json", "head.safetensors")),
    Read("two runs", "d.h5", _MAP),
    *(Read("two runs", f"run/{name}", _MAP) for name in ("run.json", "test_predictions.csv")),
    Read(
        "exported to a folder",
        "exported/provenance.json",
        (*EXPORT, "--to", "npy", "--overwrite"),
        checked=False,
    ),
    *(
        Read("vectors", name, ("cache", "import", *arguments, "--name", "n", "--out", "n.h5"), checked=False)
        for name, arguments in (
            ("v.npy", ("v.npy", "--labels", "y.npy")),
            ("y.npy", ("v.npy", "--labels", "y.npy")),
            ("v.csv", ("v.csv",)),
        )
    ),
    Read("interrupted import", "i.h5.partial", IMPORT),
    Read("manifest", "m.csv", ("extract", "m.csv", *_IMAGES), checked=False),
    Read("archive", "s.tar", ("extract", "s.tar", *_IMAGES), checked=False),
    Read("arrays", "s.npz", ("extract", "s.npz", *_IMAGES)),
    Read("parts", "d.h5.part-1-of-2", ("cache", "merge", "d.h5.part-1-of-2", "d.h5.part-2-of-2")),
    Read("interrupted", "d.h5.partial", EXTRACTION),
    Read("tuned", "tuned/backbone.json", ("evaluate", "tuned", "--json")),
    Read("tuned", "tuned/backbone.safetensors", ("evaluate", "tuned", "--json")),
)

_readings = {}


def reading_of(world, read):
    if read not in _readings:
        _readings[read] = Reading(world, read)
    return _readings[read]


def damage_all(reading, kinds):
    found = [problem for name, content in kinds if (problem := reading.problem(name, content))]
    record("damage", reading.read.file, " ".join(reading.read.arguments[:2]), len(kinds))
    assert not found, f"{len(found)} of {len(kinds)}:\n" + "\n".join(found[:20])


SHORT = tuple(
    read
    for read in READS
    if read.arguments in {_EVALUATE, _COMPARE, _TRAIN, _EXPORT, _MAP} and read.stage != "run"
)


@pytest.mark.parametrize("read", SHORT, ids=str)
def test_damage_is_named_or_means_nothing(world, read):
    reading = reading_of(world, read)
    kinds = list(structural(reading.data).items())
    short = [kind for kind in kinds if kind[0] in {"cut to 0 bytes", "junk appended"}]
    middle = len(reading.data) // 2
    damage_all(reading, [*short, (f"byte {middle} flipped", flipped(reading.data, middle))])


@pytest.mark.long
@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("read", READS, ids=str)
def test_every_damage_is_named_or_means_nothing(world, read, shard):
    reading = reading_of(world, read)
    kinds = list(structural(reading.data).items())
    kinds += [(f"byte {at} flipped", flipped(reading.data, at)) for at in flips(reading.data, FLIPS)]
    damage_all(reading, kinds[shard::SHARDS])
