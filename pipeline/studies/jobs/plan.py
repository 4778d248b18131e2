"""Planning of the jobs of a study: all combinations, each cache once, each output under a name with a digest."""

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from frostline.features.cache.file.layout import BLOCK_ROWS
from frostline.features.cache.file.part import Part
from frostline.features.errors import FeaturesError
from frostline.features.sources import open_source
from frostline.features.table import STAMP_BYTES, ImageTable
from frostline.pipeline.errors import StudyError
from frostline.pipeline.options.recipe import Recipe
from frostline.pipeline.studies.jobs.kinds import (
    Backbone,
    Candidate,
    Data,
    Extraction,
    FineTuning,
    HeadTraining,
    Job,
    Merge,
    Training,
)
from frostline.pipeline.studies.jobs.options import Heads, Recipes, read_heads, read_recipes
from frostline.pipeline.studies.jobs.study_file import ExtractTable, FinetuneTable, Study, several

_DIGITS = 8  # digits of a digest in names


@dataclass(frozen=True)
class Origin:
    """Table of the study file that a job comes from.

    Attributes:
        table: Name of the table.
        index: Index of the table among those of its name.
    """

    table: str
    index: int


@dataclass(frozen=True)
class Plan:
    """The jobs of a study.

    Attributes:
        study: The study file.
        jobs: All jobs; each comes after the jobs that it reads.
        origins: Table of each job, by name of the job.
    """

    study: Study
    jobs: tuple[Job, ...]
    origins: Mapping[str, Origin]

    def error(self, message: str, job: Job, *words: str) -> StudyError:
        """Return an error that names the line of the study file that a job comes from."""
        origin = self.origins[job.path.name]
        return self.study.places.error(message, origin.table, origin.index, *words)


def plan_study(study: Study, *, parts: int = 1) -> Plan:
    """Plan all jobs of a study. The images are listed, and nothing else is read.

    Each name contains a digest of everything that the result depends on: the listing of the data, the settings and
    the seed. A change in the file or in the data therefore gives another job.

    Args:
        study: The study file.
        parts: Number of parts to divide a missing cache into.

    Raises:
        StudyError: Data, a head, a parameter or an option is unknown; the message gives the line.
    """
    return _Planner(study, parts).plan()


class _Planner:
    """Collector of jobs, each added once."""

    def __init__(self, study: Study, parts: int) -> None:
        self._study, self._parts = study, parts
        self._jobs: dict[str, Job] = {}
        self._origins: dict[str, Origin] = {}

    def plan(self) -> Plan:
        study = self._study
        heads = [read_heads(table, index, study) for index, table in enumerate(study.train_head)]
        recipes = [read_recipes(table, index, study) for index, table in enumerate(study.finetune)]
        sets = [self._data(path) for path in several(study.batch.data)]  # lists every image
        for data, digest in sets:
            caches = self._caches(data)
            for table, head in itertools.product(study.extract, heads):
                self._train(data, digest, table, caches, head)
            for index, tuned in enumerate(study.finetune):
                self._tune(data, digest, tuned, index, recipes[index])
        return Plan(study, tuple(self._jobs.values()), self._origins)

    def _add(self, job: Job, table: str, index: int) -> None:
        if self._jobs.setdefault(job.path.name, job) is job:
            self._origins[job.path.name] = Origin(table, index)

    def _data(self, path: str) -> tuple[Data, str]:
        """Return a data set and the digest of its listing."""
        batch = self._study.batch
        try:
            with closing(open_source(path, limit=batch.limit)) as source:
                root, table = source.root, source.table
        except FeaturesError as error:
            raise self._study.places.error(str(error), "batch", 0, path) from error
        data = Data(root, batch.limit, len(table), len(table.classes), batch.fractions)
        return data, _listing(table)

    def _caches(self, data: Data) -> dict[Backbone, Path]:
        """Add the extraction of each backbone with all requested layers; return the cache paths by backbone."""
        layers: dict[Backbone, list[str]] = {}
        origins: dict[Backbone, int] = {}
        for index, table in enumerate(self._study.extract):
            for backbone in _backbones(table):
                layers.setdefault(backbone, []).extend(_extracted(table))
                origins.setdefault(backbone, index)
        paths = {}
        for backbone, names in layers.items():
            job = self._extraction(data, backbone, tuple(dict.fromkeys(names)))
            paths[backbone] = job.cache
            count = min(self._parts, -(-data.images // BLOCK_ROWS)) if not job.done() else 1
            if count == 1:
                self._add(job, "extract", origins[backbone])
                continue
            pieces = [dataclasses.replace(job, part=Part(number, count)) for number in range(1, count + 1)]
            for piece in pieces:
                self._add(piece, "extract", origins[backbone])
            self._add(Merge(job.cache, tuple(piece.path for piece in pieces)), "extract", origins[backbone])
        return paths

    def _extraction(self, data: Data, backbone: Backbone, layers: tuple[str, ...]) -> Extraction:
        batch = self._study.batch
        document = {
            **_identity(backbone),
            "layers": layers,
            "data": data.path,
            "limit": data.limit,
            "device": batch.device,
        }
        name = f"{_stem(data, backbone)}-{_digest(document)}.h5"
        return Extraction(data, backbone, layers, batch.device, self._study.out / "caches" / name)

    def _train(
        self, data: Data, digest: str, table: ExtractTable, caches: Mapping[Backbone, Path], heads: Heads
    ) -> None:
        """Add the training of every head on every cache of a table with every seed."""
        batch = self._study.batch
        for name, size, layer, head, seed in itertools.product(
            several(table.backbone),
            several(table.image_size),
            several(table.layer),
            heads.params,
            batch.seeds,
        ):
            backbones = [Backbone(part, table.weights, size) for part in name.split("+")]
            job = HeadTraining(
                path=self._study.out / "runs",
                data=data,
                caches=tuple(caches[each] for each in backbones),
                head=head,
                params=heads.params[head],
                layer=layer,
                search=heads.search,
                cv=heads.table.cv,
                project=heads.table.project,
                seed=seed,
                device=batch.device,
                evaluate=batch.evaluate,
            )
            document = {
                "job": [
                    job.head,
                    job.params,
                    job.layer,
                    job.search,
                    job.cv,
                    job.project,
                    job.seed,
                    job.device,
                ],
                "data": [digest, data.fractions],
                "backbones": [_identity(each) for each in backbones],
            }
            place = "" if layer == "embedding" else f".{layer}"
            label = heads.table.name or head.rpartition(":")[2]
            stem = _clean(f"{_stem(data, Backbone(name, None, size))}{place}-{label}-s{seed}")
            path = job.path / f"{stem}-{_digest(document)}"
            self._add(dataclasses.replace(job, path=path), "train-head", heads.index)

    def _tune(self, data: Data, digest: str, table: FinetuneTable, index: int, recipes: Recipes) -> None:
        """Add the trainings of every network of a table: one per candidate recipe, then one per seed."""
        batch = self._study.batch
        for name, size in itertools.product(several(table.backbone), several(table.image_size)):
            backbone = Backbone(name, table.weights, size)
            training = Training(
                data,
                backbone,
                table.from_scratch,
                table.cached,
                self._study.out / "activations",
                batch.device,
            )
            label = table.name or ("scratch" if table.from_scratch else "finetune")
            about = [
                digest,
                data.fractions,
                _identity(backbone),
                table.from_scratch,
                table.cached,
                batch.device,
            ]
            place = _RunNames(self._study.out, f"{_stem(data, backbone)}-{label}", about)
            candidates = []
            for number, changes in enumerate(recipes.candidates, 1):
                recipe = dataclasses.replace(recipes.short, seed=batch.seeds[0], **changes)
                run = place.path("search", f"c{number}", recipe)
                self._add(Candidate(run, training, recipe), "finetune", index)
                candidates.append((run, changes))
            for seed in batch.seeds:
                recipe = dataclasses.replace(recipes.fixed, seed=seed)
                run = place.path("runs", f"s{seed}", recipe, *(run.name for run, _ in candidates))
                job = FineTuning(run, training, recipe, batch.evaluate, tuple(candidates))
                self._add(job, "finetune", index)


@dataclass(frozen=True)
class _RunNames:
    """Naming of the runs of a network."""

    out: Path
    stem: str
    about: Sequence[Any]

    def path(self, folder: str, suffix: str, recipe: Recipe, *others: str) -> Path:
        """Return the path of the run of a recipe."""
        digest = _digest({"about": self.about, "recipe": dataclasses.asdict(recipe), "others": others})
        return self.out / folder / f"{_clean(self.stem)}-{suffix}-{digest}"


def _extracted(table: ExtractTable) -> Sequence[str]:
    """Return the layers to store for a table."""
    return [part for layer in several(table.layer) if layer != "all" for part in layer.split("+")]


def _backbones(table: ExtractTable) -> Iterator[Backbone]:
    for name, size in itertools.product(several(table.backbone), several(table.image_size)):
        yield from (Backbone(part, table.weights, size) for part in name.split("+"))


def _identity(backbone: Backbone) -> dict[str, Any]:
    """Return the identity of a backbone for the digest; a weights file is identified by path, size and time."""
    weights: Any = backbone.weights
    if weights and (file := Path(weights)).is_file():
        stat = file.stat()
        weights = [str(file.absolute()), stat.st_size, stat.st_mtime_ns]
    return {"backbone": backbone.backbone, "weights": weights, "image_size": backbone.image_size}


def _listing(table: ImageTable) -> str:
    """Return a digest of names, labels, splits, groups and sizes, without times, which change on copying."""
    digest = hashlib.sha256("\0".join(table.classes).encode())
    for column in (table.ids, table.labels, table.split, table.groups, table.stamps[:, : STAMP_BYTES // 2]):
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def _stem(data: Data, backbone: Backbone) -> str:
    path = Path(data.path)
    size = f".{backbone.image_size}px" if backbone.image_size else ""
    return _clean(f"{path.name if path.is_dir() else path.stem}.{backbone.backbone}{size}")


def _clean(name: str) -> str:
    """Replace characters that are not suitable for a file name."""
    return re.sub(r"[^\w.+-]+", "-", name)


def _digest(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
