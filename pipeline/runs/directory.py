"""A run directory: all that one training wrote, enough to repeat it, judge it and use it."""

import contextlib
import dataclasses
import datetime
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from frostline.classifiers.fitting.fitted import FittedHead
from frostline.classifiers.saving.head_files import load_head
from frostline.features.backbones import Backbone, load_backbone
from frostline.features.cache import FeatureCache
from frostline.features.cache.contract import Computed
from frostline.features.errors import FeaturesError
from frostline.features.fidelity import Check
from frostline.features.spec import FeatureSpec
from frostline.pipeline.errors import RunError
from frostline.pipeline.inputs.joined_caches import AnyCache, members

RUN_FORMAT = "frostline-run"
RUN_VERSION = 2
RUN_FILE = "run.json"
SPLIT_FILE = "split.safetensors"
LEDGER_FILE = "ledger.jsonl"
FEW_SHOT = "few-shot"
LEARNING_CURVE = "learning-curve"
FEATURES = "features.h5"
"""Where a fine-tuned run keeps the features that its own backbone gives."""

_LIBRARIES = ("frostline", "torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "h5py", "pillow")


def now() -> str:
    """The time, UTC, to the second, as ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that results depend on."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in _LIBRARIES}


def new_run_path(cache: Path, head: str, folder: str | Path = "runs") -> Path:
    """A name under `folder` that no run has yet: ``CACHE-HEAD``, then ``CACHE-HEAD-2`` and so on."""
    stem = Path(folder) / f"{cache.stem}-{head.rpartition(':')[2]}"
    path, number = stem, 1
    while path.exists():
        number += 1
        path = stem.with_name(f"{stem.name}-{number}")
    return path


def is_of_sample_sizes(folder: str | Path) -> bool:
    """Whether few-shot or learning-curve wrote a folder: they lie beside runs, and are none."""
    return any((Path(folder) / f"{name}.json").exists() for name in (FEW_SHOT, LEARNING_CURVE))


def check_new(path: Path) -> None:
    """Refuse a path where something is.

    Raises:
        RunError: Something is.
    """
    if path.exists():
        raise RunError(
            f"{path} exists already, and a run is never overwritten."
            " Choose another folder, name none for a fresh one, or delete it."
        )


@contextmanager
def write_run(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside `path` that becomes `path` when the block ends without an error.

    Raises:
        RunError: Something is at `path` already.
    """
    check_new(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
    try:
        partial.chmod(0o777 & ~_umask())
        yield partial
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@dataclass(frozen=True)
class CacheRecord:
    """What a run remembers of a cache that it was trained on.

    Attributes:
        path: Where it lay, absolute.
        spec: Specification of its features.
        check: How far they were from those of eager fp32; None where they were not compared.
        source: The folder or manifest that its images came from.
        weights: What the user gave as the backbone's weights; none for its own.
        rows: Images in it.
    """

    path: str
    spec: FeatureSpec
    check: Check | None
    source: str
    weights: str | None
    rows: int

    @property
    def computed(self) -> Computed:
        """How its features were computed, with the check in the cache itself where an earlier version recorded none."""
        check = self.check
        if check is None and not self.spec.is_reference:
            with contextlib.suppress(OSError, FeaturesError):
                cache = FeatureCache.open(self.path)
                check = cache.check if cache.key == self.spec.digest else None
        return Computed(self.spec, check)


def cache_records(cache: AnyCache) -> list[dict[str, Any]]:
    """What ``run.json`` holds of a cache, or of each of several."""
    return [
        {
            "path": str(each.path.resolve()),
            "key": each.key,
            "spec": dataclasses.asdict(each.spec),
            "check": dataclasses.asdict(each.check) if each.check else None,
            "source": each.source,
            "weights": each.weights or None,
            "rows": each.rows,
        }
        for each in members(cache)
    ]


@dataclass(frozen=True)
class Run:
    """A run directory, read.

    Attributes:
        path: The directory.
        record: The document in ``run.json``.
    """

    path: Path
    record: Mapping[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Read a run directory.

        Raises:
            RunError: There is none at `path`, or it is of a newer format.
        """
        path = Path(path)
        file = path / RUN_FILE
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(
                f"{path} is not a run directory: it holds no {RUN_FILE}. Make one with: frostline train-head CACHE"
            ) from None
        except (OSError, ValueError) as error:
            raise RunError(f"{file} can't be read: {error}") from error
        if not isinstance(record, dict) or record.get("format") != RUN_FORMAT:
            raise RunError(f"{file} does not describe a Frostline run.")
        if record.get("format_version") != RUN_VERSION:
            raise RunError(
                f"{file} has format version {record.get('format_version')}; this Frostline reads {RUN_VERSION}."
                " Use the Frostline that wrote it, or train again."
            )
        return cls(path, record)

    @property
    def caches(self) -> tuple[CacheRecord, ...]:
        """The caches that the head was trained on, in the order in which their features stand side by side.

        A fine-tuned run has one, within itself, for the features that its own backbone gives; it need not be there yet.
        """
        return tuple(
            CacheRecord(
                str(self.path / each["path"]),
                _spec(each["spec"]),
                _check(each.get("check")),
                each["source"],
                each["weights"],
                each["rows"],
            )
            for each in self.record["caches"]
        )

    @property
    def tuned(self) -> bool:
        """Whether it holds a backbone of its own, trained together with its head."""
        return bool(self.record.get("kind") == "finetune")

    def backbone(self, trained: CacheRecord, weights: str | Path | None = None) -> Backbone:
        """Load the backbone of one of its caches; `weights` says where its weights are now, if they have moved.

        Raises:
            RunError: The weights are not the ones that the head was trained with.
            FeaturesError: The backbone can't be built here.
        """
        spec = trained.spec
        if self.tuned:
            net = load_backbone(f"run:{self.path}")
        else:
            net = load_backbone(spec.backbone, weights=weights or trained.weights)
        if net.weights_sha256 != spec.weights_sha256:
            raise RunError(
                f"{self.path} was trained on features of {spec.backbone} with weights {spec.weights_sha256[:12]};"
                f" the weights here are {net.weights_sha256[:12]}. Name the right ones with --weights FILE."
            )
        return net.with_transform(spec.transform)

    @property
    def layer(self) -> str:
        """Key of the layer that the head reads; several side by side are joined by ``+``, ``2/`` before one of the second cache."""
        return str(self.record["layer"])

    def head(self, *, trusted: Collection[str] = ()) -> FittedHead:
        """Load the trained head; `trusted` is for heads from outside, see `classifiers.saving.head_files.load_head`."""
        return load_head(self.path, trusted=trusted)

    def trained_content(self) -> NDArray[np.void]:
        """Digests of the images that the head was fitted or selected on, (n,) void of 16 bytes."""
        try:
            content = load_file(self.path / SPLIT_FILE)["content"]
        except (OSError, KeyError, SafetensorError) as error:
            raise RunError(f"{self.path / SPLIT_FILE} can't be read: {error}") from error
        return np.ascontiguousarray(content).view("V16").ravel()

    def looks(self) -> list[dict[str, Any]]:
        """Entries of the ledger: each look that was taken at the test split, oldest first."""
        ledger = self.path / LEDGER_FILE
        if not ledger.exists():
            return []
        return [json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines() if line.strip()]

    def record_look(self, entry: Mapping[str, Any]) -> int:
        """Append a look to the ledger, on disk before anything is revealed; return its number, from 1."""
        number = len(self.looks()) + 1
        line = json.dumps({"look": number, "time": now(), **entry}) + "\n"
        with (self.path / LEDGER_FILE).open("ab") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        return number


def _spec(document: Mapping[str, Any]) -> FeatureSpec:
    return FeatureSpec.from_json(json.dumps(document, sort_keys=True, separators=(",", ":")))


def _check(document: Mapping[str, Any] | None) -> Check | None:
    return msgspec.convert(document, Check) if document else None


def save_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write ``run.json``."""
    document = {"format": RUN_FORMAT, "format_version": RUN_VERSION, **record}
    (folder / RUN_FILE).write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def save_split(folder: Path, content: NDArray[np.uint8], split: NDArray[np.uint8]) -> None:
    """Keep which images were trained on: digests (n, 16) and split codes (n,)."""
    save_file({"content": np.ascontiguousarray(content), "split": split}, folder / SPLIT_FILE)
