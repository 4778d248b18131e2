"""The readers that are fuzzed: where each gets its bytes, its seeds, and how a change of them stays well-formed."""

import contextlib
import gzip
import hashlib
import json
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from frostline.classifiers import load_head
from frostline.classifiers.saving.rejection_file import load_rejection
from frostline.errors import FrostlineError
from frostline.features.backbones.weights.files import read_weights
from frostline.features.cache import FeatureCache
from frostline.features.images.decoding import decode, upright_rgb
from frostline.features.sources import open_source
from frostline.features.sources.manifests.manifest import open_manifest
from frostline.features.spec import Transform
from frostline.files.checksums import digest_of_file, format_sums, read_sums
from frostline.pipeline import import_vectors
from frostline.pipeline.errors import RunError
from frostline.pipeline.runs.evaluation import read_evaluation
from frostline.pipeline.runs.ledger import Ledger
from frostline.pipeline.runs.predictions import VALIDATION_FILE, Predictions
from frostline.pipeline.runs.run import load_run
from frostline.pipeline.studies.jobs.options import read_heads, read_recipes
from frostline.pipeline.studies.jobs.study_file import read_study
from tests.fuzz import seeds
from tests.fuzz.mutations import (
    Mutation,
    mutate_bytes,
    mutate_gzip,
    mutate_hdf5,
    mutate_json,
    mutate_lines,
    mutate_safetensors,
    mutate_zip,
)

_TRANSFORM = Transform(32, "shortest", (32, 32), "bilinear", (0.5,) * 3, (0.5,) * 3)


NAMES = (
    "cache",
    "manifest",
    "manifest in Parquet",
    "manifest in JSON Lines",
    "archive, tar",
    "archive, zip",
    "arrays, npy",
    "arrays, npz",
    "arrays, HDF5",
    "arrays, IDX",
    "table, Parquet",
    "table, Arrow",
    "arrays, IDX, gzip",
    "arrays, IDX, labels",
    "arrays, CIFAR",
    "arrays, CIFAR, binary",
    "arrays, CIFAR, classes",
    "arrays, CIFAR, archive",
    *(f"vectors, {name}" for name in seeds.VECTORS),
    *(f"labels of vectors, {name}" for name in seeds.BESIDE),
    "study file",
    "run.json",
    "head.json",
    "head.skops",
    "head.safetensors",
    "evaluation.json",
    "split.safetensors",
    "rejection.safetensors",
    "ledger.jsonl",
    "validation_predictions.csv",
    "SHA256SUMS",
    "image",
    "weights, safetensors",
    "weights, torch",
)
"""Names of the targets."""


@dataclass(frozen=True)
class Target:
    """A reader.

    Attributes:
        name: Name of the target.
        seeds: Valid inputs.
        read: Function that reads some bytes, and raises nothing but `FrostlineError`.
        mutate: Changes that keep the input well-formed.
    """

    name: str
    seeds: Sequence[bytes]
    read: Callable[[bytes], Any]
    mutate: Mutation

    def run(self, data: bytes) -> bool:
        """Read some bytes; return whether they were accepted."""
        with contextlib.suppress(FrostlineError), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # numbers near the largest overflow in products
            self.read(data)
            return True
        return False

    def run_quietly(self, data: bytes) -> None:
        """Read some bytes, for a fuzzer that takes no result."""
        self.run(data)


def make_targets(folder: Path) -> Mapping[str, Target]:
    """Return all targets by name. They read files in a folder, which is best on a disk in memory."""
    whole = seeds.write_run(folder)
    run, linear = (seeds.copy_run(path, folder / "records") for path in (whole, whole.with_name("linear")))
    sums = format_sums({path.name: digest_of_file(path) for path in whole.iterdir()})
    made = [
        _in_file(
            folder / "x.h5",
            "cache",
            [(folder / name).read_bytes() for name in ("cache.h5", "columns.h5")],
            _read_cache,
            mutate_hdf5,
        ),
        _in_file(folder / "x.csv", "manifest", [seeds.MANIFEST.encode()], open_manifest, mutate_bytes),
        _in_file(folder / "x.parquet", "manifest in Parquet", seeds.tables(), open_manifest, mutate_bytes),
        _in_file(
            folder / "x.jsonl",
            "manifest in JSON Lines",
            [seeds.JSON_LINES.encode()],
            open_manifest,
            mutate_lines,
        ),
        *(
            _in_file(folder / "sets" / file, name, found, _read_set, mutate)
            for file, name, found, mutate in (
                ("x.tar", "archive, tar", seeds.tars(), mutate_bytes),
                ("x.zip", "archive, zip", seeds.zips(), mutate_zip),
                ("x.npy", "arrays, npy", seeds.arrays(), mutate_bytes),
                ("x.npz", "arrays, npz", seeds.named_arrays(), mutate_zip),
                ("x.hdf5", "arrays, HDF5", seeds.hdf5_arrays(), mutate_hdf5),
                ("x-images-idx3-ubyte", "arrays, IDX", seeds.idx(), mutate_bytes),
                ("x.parquet", "table, Parquet", seeds.image_tables("parquet"), mutate_bytes),
                ("x.arrow", "table, Arrow", seeds.image_tables("arrow"), mutate_bytes),
            )
        ),
        _in_file(
            folder / "packed" / "x-images-idx3-ubyte.gz",
            "arrays, IDX, gzip",
            [gzip.compress(each) for each in seeds.idx()],
            _read_set,
            mutate_gzip,
        ),
        *(
            _in_file(folder / place / file, f"arrays, {name}", make(folder / place), read, mutate)
            for place, file, name, make, read, mutate in (
                ("idx", "x-labels-idx1-ubyte", "IDX, labels", seeds.idx_labels, _read_folder, mutate_bytes),
                ("cifar", "test_batch", "CIFAR", seeds.cifar, _read_folder, mutate_bytes),
                ("bin", "test.bin", "CIFAR, binary", seeds.cifar_binary, _read_folder, mutate_bytes),
                ("names", "batches.meta", "CIFAR, classes", seeds.cifar_names, _read_folder, mutate_bytes),
                (
                    "gz",
                    "cifar-100-python.tar.gz",
                    "CIFAR, archive",
                    seeds.cifar_archive,
                    _read_set,
                    mutate_gzip,
                ),
            )
        ),
        *(
            _in_file(folder / "vectors" / file, f"vectors, {name}", found(), _read_vectors, _MUTATIONS[name])
            for name, (file, found) in seeds.VECTORS.items()
        ),
        *(
            _in_file(
                folder / "labels" / file, f"labels of vectors, {name}", found(), _read_labels, mutate_bytes
            )
            for name, (file, found) in seeds.BESIDE.items()
        ),
        _in_file(folder / "x.toml", "study file", [seeds.STUDY.encode()], _read_study, mutate_bytes),
        _record(run, "run.json", lambda: _read_run(run), mutate_json),
        _record(run, "head.json", lambda: load_head(run), mutate_json),
        _head(run, "head.skops", mutate_zip),
        _head(linear, "head.safetensors", mutate_safetensors),
        _record(run, "evaluation.json", lambda: read_evaluation(run), mutate_json),
        _record(run, "split.safetensors", lambda: load_run(run).split, mutate_safetensors),
        _record(run, "rejection.safetensors", lambda: load_rejection(run), mutate_safetensors),
        _record(run, "ledger.jsonl", lambda: Ledger(run).entries(), mutate_lines),
        _record(run, VALIDATION_FILE, lambda: Predictions.read(run / VALIDATION_FILE), mutate_bytes),
        _in_file(
            folder / "sums" / "SHA256SUMS",
            "SHA256SUMS",
            [sums],
            lambda path: read_sums(path.parent, RunError),
            mutate_bytes,
        ),
        Target("image", seeds.images(), _decode, mutate_bytes),
        _in_file(
            folder / "x.safetensors",
            "weights, safetensors",
            seeds.safetensors(),
            read_weights,
            mutate_safetensors,
        ),
        _in_file(folder / "x.pth", "weights, torch", seeds.checkpoints(), read_weights, mutate_zip),
    ]
    return {target.name: target for target in made}


def _in_file(
    path: Path, name: str, found: Sequence[bytes], read: Callable[[Path], Any], mutate: Mutation
) -> Target:
    """Return a target that reads a file."""
    path.parent.mkdir(exist_ok=True)

    def read_bytes(data: bytes) -> None:
        path.write_bytes(data)
        read(path)

    return Target(name, found, read_bytes, mutate)


def _record(run: Path, name: str, read: Callable[[], Any], mutate: Mutation) -> Target:
    """Return a target that reads a file of a run."""
    whole = (run / name).read_bytes()

    def read_bytes(data: bytes) -> None:
        (run / name).write_bytes(data)
        try:
            read()
        finally:
            (run / name).write_bytes(whole)

    return Target(name, [whole], read_bytes, mutate)


def _head(run: Path, name: str, mutate: Mutation) -> Target:
    """Return a target that reads the arrays of a head, whose digest is right."""
    whole, record = (run / name).read_bytes(), (run / "head.json").read_bytes()

    def read_bytes(data: bytes) -> None:
        changed = {**json.loads(record), "sha256": hashlib.sha256(data).hexdigest()}
        (run / name).write_bytes(data)
        (run / "head.json").write_text(json.dumps(changed))
        try:
            head = load_head(run)
            head.predict_proba(np.zeros((2, head.dim), np.float32))
        finally:
            (run / name).write_bytes(whole)
            (run / "head.json").write_bytes(record)

    return Target(name, [whole], read_bytes, mutate)


def _read_cache(path: Path) -> None:
    cache = FeatureCache.open(path)
    try:
        cache.info()
        cache.verify()
        _ = (cache.ids, cache.labels, cache.classes, cache.split, cache.groups, cache.errors, cache.columns)
        for layer in cache.layers:
            np.asarray(cache.features(layer.key)).sum()
    finally:
        cache.close()


_MUTATIONS: Mapping[str, Mutation] = {
    "npy": mutate_bytes,
    "npz": mutate_zip,
    "HDF5": mutate_hdf5,
    "safetensors": mutate_safetensors,
    "torch": mutate_zip,
    "Parquet": mutate_bytes,
    "Arrow": mutate_bytes,
    "CSV": mutate_bytes,
    "JSON Lines": mutate_lines,
}


def _read_vectors(path: Path, **options: Any) -> None:
    """Import the vectors of a file, whatever rows fail."""
    out = path.with_name("out")
    out.mkdir(exist_ok=True)
    try:
        import_vectors(path, name="fuzz", out=out / "c.h5", max_bad=1.0, overwrite=True, **options)
    finally:
        shutil.rmtree(out)


def _read_labels(path: Path) -> None:
    """Import vectors with the labels of a file."""
    vectors = path.with_name("x.npy")
    np.save(vectors, np.ones((5, 3), np.float32))
    _read_vectors(vectors, labels=str(path))


def _read_study(path: Path) -> None:
    study = read_study(path)
    for table in study.train_head:
        read_heads(table)
    for tuned in study.finetune:
        read_recipes(tuned, study.batch.seeds[0])


def _read_run(run: Path) -> None:
    from frostline.pipeline.runs.summary import summarise

    found = load_run(run)
    _ = (found.split, found.caches, found.tuned)
    found.head()
    summarise(run)


def _read_set(path: Path) -> None:
    """List the images of a set, and read every one; rows may fail."""
    with contextlib.closing(open_source(path)) as source:
        for row in range(min(len(source.table), 20)):
            with contextlib.suppress(OSError):
                source.read(row)


def _read_folder(path: Path) -> None:
    _read_set(path.parent)


def _decode(data: bytes) -> None:
    upright_rgb(data).close()
    decode(data, _TRANSFORM, np.zeros((32, 32, 3), np.uint8))
