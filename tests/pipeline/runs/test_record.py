"""Records of runs: what is written is what is read, and nothing in a file ends in anything but a message."""

import copy
import dataclasses
import itertools
import json
import shlex
import shutil
from types import MappingProxyType

import msgspec
import pytest

from frostline.classifiers.heads.catalog import parse_params
from frostline.features.errors import FeaturesError
from frostline.pipeline import Recipe, RunError, evaluate, load_run
from frostline.pipeline.options.learning.heads import TrainHeadOptions
from frostline.pipeline.runs import summary
from frostline.pipeline.runs.evaluation import EVALUATION_FILE, read_evaluation
from frostline.pipeline.runs.ledger import LEDGER_FILE
from frostline.pipeline.runs.record import HeadRun, TunedRun, save_record
from frostline.pipeline.runs.split import SPLIT_FILE
from frostline.pipeline.runs.summary import summarise
from frostline.pipeline.studies.html_report.commands import repeating_commands
from tests.helpers.paths import DATA

ARCHIVE = DATA / "archives" / "runs" / "v3"
FIRST = ARCHIVE.with_name("v1")

TUNING = {
    "recipe": dataclasses.asdict(Recipe(epochs=3, lr=0.01, augment="none", nesterov=False)),
    "backbone": "timm:test_vit",
    "weights": None,
    "weights_sha256": "0" * 64,
    "image_size": None,
    "limit": None,
    "from_scratch": False,
    "from_run": None,
    "cache": None,
    "trained": 10,
    "frozen": 0,
    "frozen_sha256": "0" * 64,
    "best_epoch": 2,
}


@pytest.fixture
def run(tmp_path):
    """A run whose record a test may change."""
    return shutil.copytree(ARCHIVE / "linear", tmp_path / "run")


def document_of(run):
    return json.loads((run / "run.json").read_text())


def write(run, document):
    (run / "run.json").write_text(document if isinstance(document, str) else json.dumps(document))


def tuned(document):
    """The same of a fine-tuned run."""
    found = {key: value for key, value in document.items() if key != "options"}
    caches = [{**cache, "path": "features.h5"} for cache in document["caches"]]
    return {**found, "kind": "finetune", "caches": caches, "finetune": copy.deepcopy(TUNING)}


def of_this_version(document):
    """What is written now for a record of version 3."""
    caches = [{**cache, "reading": {}} for cache in document["caches"]]
    split = {**document["split"], "rule": 1}
    return {**document, "format_version": 4, "caches": caches, "split": split}


def leaves(value, path=()):
    """Paths of everything in a document, from the outside in."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from leaves(value[key], (*path, key))


def changed(document, path, value):
    """A copy with another value at a path."""
    found = copy.deepcopy(document)
    place = found
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return found


@pytest.mark.parametrize("name", ["linear", "mlp", "ridge"])
def test_record_round_trips(name, tmp_path):
    record = load_run(ARCHIVE / name).record
    assert isinstance(record, HeadRun)
    save_record(tmp_path, record)
    assert document_of(tmp_path) == of_this_version(document_of(ARCHIVE / name))
    assert load_run(tmp_path).record == record


def test_record_of_fine_tuned_run_round_trips(run, tmp_path):
    document = tuned(document_of(run))
    write(run, document)
    opened = load_run(run)
    assert isinstance(opened.record, TunedRun)
    assert opened.tuning.recipe == Recipe(epochs=3, lr=0.01, augment="none", nesterov=False)
    save_record(tmp_path, opened.record)
    assert document_of(tmp_path) == of_this_version(document)


def test_recipe_of_another_release_is_read(run):
    document = tuned(document_of(run))
    document["finetune"]["recipe"] = {"epochs": 3, "lr": 0.01, "ema": None, "of_a_later_release": 1}
    write(run, document)
    assert load_run(run).tuning.recipe == Recipe(epochs=3, lr=0.01)


def test_invalid_recipe_of_a_record_is_refused(run):
    document = tuned(document_of(run))
    document["finetune"]["recipe"] = {"batch_size": 10, "accumulate": 3}
    write(run, document)
    with pytest.raises(RunError, match="accumulate: got 3, expected a divisor of the batch size, 10"):
        load_run(run)


def test_other_mapping_and_str_types_are_serialised(tmp_path):
    class Version(str):  # as torch has one
        __slots__ = ()

    record = load_run(ARCHIVE / "linear").record
    versions = MappingProxyType({name: Version(text) for name, text in record.versions.items()})
    save_record(tmp_path, msgspec.structs.replace(record, versions=versions))
    assert load_run(tmp_path).record == record


def test_recorded_arguments_are_typed(run):
    document = document_of(run)
    document["options"] |= {"search": "random", "trials": 5, "surprise": "of a later release"}
    write(run, document)
    options = load_run(run).record.train_options()
    assert options == TrainHeadOptions(
        "linear", params={}, project="pca:6", search="random", trials=5, device="cpu"
    )


def test_options_of_version_2_are_read():
    options = load_run(ARCHIVE.with_name("v2") / "linear").record.train_options()
    assert options == TrainHeadOptions("linear", params={}, project="pca:6", device="cpu")


def test_search_of_version_2_is_read(tmp_path):
    run = shutil.copytree(ARCHIVE.with_name("v2") / "linear", tmp_path / "run")
    write(
        run, changed(document_of(run), ("asked", "search"), {"method": "random", "trials": 5, "jobs": None})
    )
    options = load_run(run).record.train_options()
    assert (options.search, options.trials, options.jobs) == ("random", 5, None)
    write(run, changed(document_of(run), ("asked", "search"), {"method": "luck"}))
    with pytest.raises(RunError, match="search: got 'luck', expected one of grid, random"):
        load_run(run)


def test_rejected_engines_of_an_earlier_version_are_read(run):
    document = document_of(run)
    layer = {"min_cosine": 1.0, "mean_cosine": 1.0, "relative_error": 0.0}
    check = {"images": 1, "layers": {"embedding": layer}, "passed_over": ["eager bf16: too far"]}
    write(run, changed(document, ("caches", 0, "check"), check))
    assert load_run(run).record.caches[0].check.rejected == ("eager bf16: too far",)


def test_best_epoch_of_an_earlier_version_is_read(run):
    document = tuned(document_of(run))
    document["finetune"]["best"] = document["finetune"].pop("best_epoch")
    write(run, document)
    assert load_run(run).tuning.best_epoch == 2


MALFORMED = {
    "empty": ("", "run.json is not the record of a run: Input data was truncated"),
    "no JSON": ("{", "is not the record of a run"),
    "not UTF-8": ('"\\udcff"', "is not the record of a run"),
    "a list": ([1, 2], r"got \[1, 2\], expected a JSON object"),
    "NaN": ('{"format": NaN}', "JSON is malformed: invalid character"),
    "too large a number": ('{"format": 1e999}', "out of range"),
    "deep": ("[" * 100_000, "nested more than 32 levels deep"),
    "rather deep": ('{"a":' * 50 + "1" + "}" * 50, "nested more than 32 levels deep"),
    "another format": ({"format": "other"}, "format: expected 'frostline-run', got 'other'"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_record_is_refused(run, name):
    document, message = MALFORMED[name]
    write(run, document)
    with pytest.raises(RunError, match=f"(?s){message}.*(Restore the file from a copy, or train again)"):
        load_run(run)


WRONG = {
    "text for a number": (("caches", 0, "rows"), "many", r"caches\[0\].rows: expected int, got 'many'"),
    "a negative number": (("caches", 0, "rows"), -1, r"caches\[0\].rows: expected int >= 0, got -1"),
    "a huge number": (
        ("split", "counts", "val"),
        10**40,
        "split.counts.val: expected int <= 9007.*, got 1000",
    ),
    "true for a number": (("split", "counts", "val"), True, "split.counts.val: expected int, got True"),
    "more than all": (("metrics", "validation", "accuracy"), 1.5, "accuracy: expected float <= 1.0, got 1.5"),
    "no caches": (("caches",), [], r"caches: expected array of length >= 1, got \[\]"),
    "null for a text": (("layer",), None, "layer: expected str, got None"),
    "a layer that isn't there": (("layer",), "other", "layer is 'other'"),
    "a cache that isn't there": (("layer",), "2/embedding", "layer is '2/embedding'"),
    "a cache before the first": (("layer",), "0/embedding", "layer is '0/embedding'"),
    "a cache without a number": (("layer",), "x/embedding", "layer is 'x/embedding'"),
    "a message in a name": (("layer",), "x - at `$.y`", "layer is 'x - at"),
    "an unknown kind": (("kind",), "other", "kind: invalid value 'other', got 'other'"),
    "two fractions": (("split", "fractions"), [0.5, 0.5], "fractions: expected array of length 3"),
    "a share below 0": (("options", "fractions", 0), -0.5, r"fractions: got \[-0.5, .*expected 3 values"),
    "a search that there isn't": (("options", "search"), "luck", "search: got 'luck', expected one of grid"),
    "another specification": (("caches", 0, "spec", "dtype"), "float16", r"caches\[0\]: expected a spec"),
    "one mean": (("caches", 0, "spec", "transform", "mean"), [0.5], "expected mean to be three numbers"),
    "no deviation": (
        ("caches", 0, "spec", "transform", "std"),
        [0, 1, 1],
        "expected std to be three numbers",
    ),
    "a class twice": (
        ("classes",),
        ["a", "b", "a"],
        r"expected different names of classes, classes is \('a'",
    ),
    "version 0": (("format_version",), 0, "format_version: expected 1 to 4, got 0"),
    "a version as text": (("format_version",), "2", "format_version: expected 1 to 4, got '2'"),
    "a version that is true": (("format_version",), True, "format_version: expected 1 to 4, got True"),
    "a later version": (("format_version",), 5, "has format version 5; .* reads 1 to 4. Update Frostline"),
}


@pytest.mark.parametrize("name", WRONG)
def test_invalid_field_is_named(run, name):
    path, value, message = WRONG[name]
    write(run, changed(document_of(run), path, value))
    with pytest.raises(RunError, match=message) as caught:
        load_run(run)
    assert str(run / "run.json") in str(caught.value)


def test_missing_field_is_named(run):
    document = document_of(run)
    del document["caches"][0]["source"]
    write(run, document)
    with pytest.raises(RunError, match=r"caches\[0\]: object missing required field source"):
        load_run(run)


def test_fine_tuned_run_has_exactly_one_cache(run):
    document = tuned(document_of(run))
    write(run, {**document, "caches": document["caches"] * 2})
    with pytest.raises(RunError, match="expected one cache in a fine-tuned run, there are 2"):
        load_run(run)


def test_unknown_field_is_ignored(run):
    before = load_run(run).record
    document = changed(document_of(run), ("surprise",), {"of": ["a later release"]})
    write(run, changed(document, ("head", "surprise"), 1))
    assert load_run(run).record == before


HOSTILE = ("x", -1, 10**400, None, {"": [True]})


@pytest.mark.parametrize("kind", [lambda document: document, tuned], ids=["head", "finetune"])
def test_mutated_record_is_read_or_refused(run, kind, monkeypatch):
    """A record that is read can be summed up, and its commands written; nothing is raised but what is expected."""

    def no_network(*_):
        raise FeaturesError("not built here: it takes a second")

    monkeypatch.setattr(summary, "describe", no_network)
    document = kind(document_of(run))
    refused = 0
    for path in list(leaves(document))[1:]:
        if path[3:] or (path[:1] == ("trials",) and path[1:] > (0,)):  # the first trial stands for all
            continue
        for value in HOSTILE:
            write(run, changed(document, path, value))
            try:
                opened = load_run(run)
            except RunError:
                refused += 1
            else:
                assert repeating_commands(opened)
                assert summarise(run).name == "run"
    assert refused > 200


@pytest.fixture
def first(tmp_path):
    """A run that version 1 wrote: on one cache, without what was asked for."""
    return shutil.copytree(FIRST / "linear", tmp_path / "first")


@pytest.mark.parametrize("name", ["linear", "knn"])
def test_version_1_run_is_read(name):
    opened, document = load_run(FIRST / name), document_of(FIRST / name)
    assert document["format_version"] == 1
    assert isinstance(opened.record, HeadRun)
    (cache,) = opened.caches
    assert (cache.path, cache.key) == (document["cache"]["path"], document["cache"]["key"])
    assert opened.record.options is opened.record.head.width is None
    assert opened.record.head.params == document["head"]["params"]
    assert summarise(FIRST / name).validation.value == document["metrics"]["validation"]["accuracy"]


def test_version_1_run_is_not_rewritten(first):
    before = {path: path.read_bytes() for path in first.iterdir()}
    evaluate(first, FIRST / "cache.h5")
    assert all(path.read_bytes() == content for path, content in before.items())


def test_version_1_run_is_repeated_with_selected_settings(first):
    record = load_run(first).record
    _, training = repeating_commands(load_run(first))
    words = shlex.split(training)
    given = [word for option, word in itertools.pairwise(words) if option == "--param"]
    assert "--head" not in words  # linear is the default
    assert parse_params("linear", given) == record.head.params


def test_version_1_run_without_cache_is_refused(first):
    document = document_of(first)
    del document["cache"]
    write(first, document)
    with pytest.raises(RunError, match=r"caches\[0\]: expected object, got None"):
        load_run(first)


@pytest.mark.parametrize("name", ["missing", "a file", "a folder"])
def test_missing_run_is_named(tmp_path, name):
    path = tmp_path / name
    if name == "a file":
        path.write_text("x")
    elif name == "a folder":
        (path / "run.json").mkdir(parents=True)
    with pytest.raises(RunError, match=r"is not a run directory|can't be read"):
        load_run(path)


# -- the ledger, the evaluation and the split


def test_every_evaluation_is_in_the_ledger(run):
    ledger = load_run(run).ledger
    assert ledger.entries() == ()
    assert [ledger.record(cache="a.h5", key="k", rows=number) for number in (10, 11)] == [1, 2]
    assert [(entry.evaluation_number, entry.rows, entry.cache) for entry in ledger.entries()] == [
        (1, 10, "a.h5"),
        (2, 11, "a.h5"),
    ]
    lines = (run / LEDGER_FILE).read_text().splitlines()
    assert [list(json.loads(line)) for line in lines] == [
        ["evaluation_number", "time", "cache", "key", "rows"]
    ] * 2


def test_ledger_of_earlier_version_is_read_and_continued(run):
    line = '{"look": 1, "time": "2026-01-01T00:00:00Z", "cache": "a.h5", "key": "k", "rows": 10}'
    (run / LEDGER_FILE).write_text(f"{line}\n")
    ledger = load_run(run).ledger
    assert ledger.record(cache="a.h5", key="k", rows=11) == 2
    assert [(entry.evaluation_number, entry.rows) for entry in ledger.entries()] == [(1, 10), (2, 11)]


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"evaluation_number": "first"}', '{"look": 0}', "NaN", "[" * 100_000]
)
def test_damaged_ledger_is_refused_before_evaluation(run, line):
    load_run(run).ledger.record(cache="a.h5", key="k", rows=1)
    with (run / LEDGER_FILE).open("a") as file:
        file.write(f"\n{line}\n")
    before = (run / LEDGER_FILE).read_bytes()
    with pytest.raises(RunError, match=f"{LEDGER_FILE}, line 3 is not an entry of the ledger"):
        evaluate(run, ARCHIVE / "cache.h5")
    assert not (run / EVALUATION_FILE).exists()
    assert (run / LEDGER_FILE).read_bytes() == before


def test_evaluation_round_trips(run):
    result = evaluate(run, ARCHIVE / "cache.h5")
    found = read_evaluation(run)
    assert (found.evaluation_number, found.rows, found.cache) == (
        result.evaluation_number,
        result.rows,
        str(result.cache),
    )
    assert found.metrics.top1.value == result.metrics.top1.value
    assert found.confusion == tuple(map(tuple, result.metrics.confusion.tolist()))
    assert found.calibration.after.counts == tuple(result.calibration.after.counts.tolist())
    assert summarise(run).test.value == result.metrics.top1.value


def test_evaluation_of_earlier_version_is_read(run):
    evaluate(run, ARCHIVE / "cache.h5")
    document = json.loads((run / EVALUATION_FILE).read_text())
    del document["calibration"]
    document["look"] = document.pop("evaluation_number")
    document["metrics"]["ece"] = document["metrics"].pop("rms_calibration_error")
    (run / EVALUATION_FILE).write_text(json.dumps(document))
    assert summarise(run).test.rows == document["rows"]


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"rows": "many"}', "[" * 100_000])
def test_damaged_evaluation_is_named(run, text):
    (run / EVALUATION_FILE).write_text(text)
    with pytest.raises(RunError, match=f"{EVALUATION_FILE} is not an evaluation: .*Run evaluate again"):
        summarise(run)


def test_split_with_wrong_shape_is_named(run):
    import numpy as np
    from safetensors.numpy import save_file

    arrays = {"content": np.zeros((3, 16), np.uint8), "split": np.ones(3, np.uint8)}
    damaged = {
        "content": (
            np.zeros((3, 5), np.uint8),
            r"content: got uint8 of shape \(3, 5\), expected uint8 of shape",
        ),
        "labels": (
            np.zeros(2, np.int64),
            r"labels: got int64 of shape \(2,\), expected int64 of shape \(3,\)",
        ),
        "positions": (np.zeros(3, np.float32), "positions: got float32 of shape .*, expected float64"),
    }
    for name, (array, message) in damaged.items():
        save_file({**arrays, name: array}, run / SPLIT_FILE)
        with pytest.raises(RunError, match=message):
            _ = load_run(run).split
    (run / SPLIT_FILE).write_bytes(b"x")
    with pytest.raises(RunError, match=r"can't be read.*train again"):
        _ = load_run(run).split


def check_refused(run, document, match):
    write(run, document)
    with pytest.raises(RunError, match=match):
        load_run(run)


@pytest.mark.parametrize("path", ["/x/y.h5", "../x.h5", "..", "sub/x.h5", "C:\\x.h5", "a\\b.h5", ""])
def test_the_cache_of_a_fine_tuned_run_lies_in_the_run(run, path):
    document = tuned(document_of(run))
    document["caches"][0]["path"] = path
    check_refused(run, document, "within the run")


@pytest.mark.parametrize("reading", [{"foo": 1}, {"limit": 3}, {"split_folders": 5}, {"path_column": 7}])
def test_recorded_options_of_the_reading_are_checked(run, reading):
    document = of_this_version(document_of(run))
    document["caches"][0]["reading"] = reading
    check_refused(run, document, "options of the reading")
