"""Planning of the jobs of a study: all combinations, each cache once, each output under a name with a digest."""

import hashlib
import itertools
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from frostline.features.cache.file.layout import BLOCK_ROWS
from frostline.features.cache.file.part import Part
from frostline.features.errors import FeaturesError
from frostline.features.sources import open_source, source_name
from frostline.features.sources.remote.urls import is_url
from frostline.features.table import STAMP_BYTES, ImageTable
from frostline.options import Options
from frostline.pipeline.errors import StudyError
from frostline.pipeline.options.extraction import BackboneOptions, ExtractOptions
from frostline.pipeline.options.learning.heads import TrainHeadOptions
from frostline.pipeline.options.learning.recipe import Recipe
from frostline.pipeline.studies.jobs.kinds import (
    Candidate,
    Data,
    Extraction,
    FineTuning,
    HeadTraining,
    Job,
    Merge,
)
from frostline.pipeline.studies.jobs.options import Recipes, read_heads, read_recipes
from frostline.pipeline.studies.jobs.places import Place
from frostline.pipeline.studies.jobs.study_file import (
    ExtractTable,
    FinetuneTable,
    Study,
    Table,
    TrainHeadTable,
)

_DIGITS = 8  # digits of a digest in names
_LONGEST_NAME = 200  # bytes; file systems take 255, and names of working files are longer
_UNNAMED = ("batch_size", "max_bad")  # settings that change no result, only whether there is one


@dataclass(frozen=True)
class Plan:
    """The jobs of a study.

    Attributes:
        study: The study file.
        jobs: All jobs; each comes after the jobs that it reads.
        places: Place of the table of each job, by name of the job.
    """

    study: Study
    jobs: tuple[Job, ...]
    places: Mapping[str, Place]

    def error(self, message: str, job: Job, *words: str) -> StudyError:
        """Return an error that names the line of the study file that a job comes from."""
        return self.places[job.path.name].error(message, *words)


def plan_study(study: Study, *, parts: int = 1, trusted: Collection[str] = ()) -> Plan:
    """Plan all jobs of a study. The images are listed, and nothing else is read.

    Each name contains a digest of everything that the result depends on: the listing of the data, the settings and
    the seed. A change in the file or in the data therefore gives another job.

    Args:
        study: The study file.
        parts: Number of parts to divide a missing cache into.
        trusted: Modules that heads may import.

    Raises:
        StudyError: Data, a head, a parameter or an option is unknown; the message gives the line.
    """
    return _Planner(study, parts, trusted).plan()


class _Planner:
    """Collector of jobs, each added once."""

    def __init__(self, study: Study, parts: int, trusted: Collection[str]) -> None:
        self._study, self._parts, self._trusted = study, parts, trusted
        self._jobs: dict[str, Job] = {}
        self._places: dict[str, Place] = {}

    def plan(self) -> Plan:
        study = self._study
        heads = [(table, read_heads(table, self._trusted)) for table in study.train_head]
        recipes = [read_recipes(table, study.batch.seeds[0]) for table in study.finetune]
        sets = [self._data(path) for path in study.batch.data]  # lists every image
        for data in sets:
            caches = self._caches(data)
            for table, (trained, options) in itertools.product(study.extract, heads):
                self._train(data, table, caches, trained, options)
            for tuned, recipe in zip(study.finetune, recipes, strict=True):
                self._tune(data, tuned, recipe)
        return Plan(study, tuple(self._jobs.values()), self._places)

    def _add(self, job: Job, table: Table) -> None:
        name = job.path.name
        if len(os.fsencode(name)) > _LONGEST_NAME:
            raise table.place.error(
                f"the name of an output, {name[:40]!r}..., has {len(os.fsencode(name))} bytes; expected at most"
                f" {_LONGEST_NAME}. Choose a shorter name"
            )
        known = self._jobs.setdefault(name, job)  # two data sets with equal listings share their runs
        if getattr(known, "options", None) != getattr(job, "options", None):
            raise table.place.error(
                f"another table gives {name} as well, with other options; join the two tables"
            )
        self._places.setdefault(name, table.place)

    def _data(self, path: str) -> Data:
        """List a data set."""
        batch = self._study.batch
        try:
            with closing(
                open_source(path, limit=batch.limit, **batch.reading(), access=batch.access())
            ) as source:
                root, table = source.root, source.table
        except FeaturesError as error:
            raise batch.place.error(str(error), path) from error
        opened = path if is_url(path) else root  # a root has no password
        return Data(root, len(table), len(table.classes), _listing(table), _columns(table), opened)

    def _caches(self, data: Data) -> dict[ExtractOptions, Path]:
        """Add the extraction of each network with all requested layers; return the cache paths by network."""
        layers: dict[ExtractOptions, list[str]] = {}
        tables: dict[ExtractOptions, ExtractTable] = {}
        for table in self._study.extract:
            for network in itertools.chain.from_iterable(networks for *_, networks in _joined(table)):
                layers.setdefault(network, []).extend(_extracted(table))
                tables.setdefault(network, table)
        paths = {}
        for network, names in layers.items():
            job, table = self._extraction(data, network, tuple(dict.fromkeys(names))), tables[network]
            paths[network] = job.cache
            count = min(self._parts, -(-data.images // BLOCK_ROWS)) if not job.done() else 1
            if count == 1:
                self._add(job, table)
                continue
            parts = [Part(number, count) for number in range(1, count + 1)]
            pieces = [replace(job, options=replace(job.options, part=part)) for part in parts]
            for piece in pieces:
                self._add(piece, table)
            self._add(Merge(job.cache, tuple(piece.path for piece in pieces)), table)
        return paths

    def _extraction(self, data: Data, network: ExtractOptions, layers: tuple[str, ...]) -> Extraction:
        batch = self._study.batch
        document = {
            **_identity(network),
            "layers": layers,
            "data": data.path,
            "limit": batch.limit,
            "device": batch.device,
            **batch.reading(),
        }
        name = f"{_stem(data, network.backbone, network.image_size)}-{_digest(document)}.h5"
        given = {**batch.reading(), **batch.remote()}
        options = replace(network, layers=layers, limit=batch.limit, device=batch.device, **given)
        return Extraction(data, options, self._study.out / "caches" / name)

    def _train(
        self,
        data: Data,
        table: ExtractTable,
        caches: Mapping[ExtractOptions, Path],
        trained: TrainHeadTable,
        heads: Sequence[TrainHeadOptions],
    ) -> None:
        """Add the training of every head on every cache of a table with every seed."""
        batch = self._study.batch
        for (name, size, networks), layer, head, seed in itertools.product(
            _joined(table), table.layer, heads, batch.seeds
        ):
            options = replace(head, layer=layer, seed=seed, device=batch.device, fractions=batch.fractions)
            place = "" if layer == "embedding" else f".{layer}"
            label = trained.name or head.head.rpartition(":")[2]
            stem = _clean(f"{_stem(data, name, size)}{place}-{label}-s{seed}")
            path = self._study.out / "runs" / f"{stem}-{_digest(_of_head(options, data, networks))}"
            files = tuple(caches[each] for each in networks)
            self._add(HeadTraining(path, data, files, options, batch.evaluate), trained)

    def _tune(self, data: Data, table: FinetuneTable, recipes: Recipes) -> None:
        """Add the trainings of every network of a table: one per candidate recipe, then one per seed."""
        batch = self._study.batch
        for name, size in itertools.product(table.backbone, table.sizes):
            network = replace(table.options, backbone=name, image_size=size)
            options = replace(
                network,
                device=batch.device,
                fractions=batch.fractions,
                limit=batch.limit,
                caches=self._study.out / "activations",
                **batch.reading(),
                **batch.remote(),
            )
            label = table.name or ("scratch" if network.from_scratch else "finetune")
            about = [
                data.digest,
                batch.fractions,
                _identity(network),
                network.from_scratch,
                network.cached,
                batch.device,
            ]
            place = _RunNames(self._study.out, f"{_stem(data, name, size)}-{label}", about)
            candidates = []
            for number, changes in enumerate(recipes.candidates, 1):
                recipe = replace(recipes.short, seed=batch.seeds[0], **changes)
                run = place.path("search", f"c{number}", recipe)
                self._add(Candidate(run, data, replace(options, recipe=recipe)), table)
                candidates.append((run, changes))
            for seed in batch.seeds:
                recipe = replace(recipes.fixed, seed=seed)
                run = place.path("runs", f"s{seed}", recipe, *(run.name for run, _ in candidates))
                tuned = replace(options, recipe=recipe)
                self._add(FineTuning(run, data, tuned, batch.evaluate, tuple(candidates)), table)


@dataclass(frozen=True)
class _RunNames:
    """Naming of the runs of a network."""

    out: Path
    stem: str
    about: Sequence[Any]

    def path(self, folder: str, suffix: str, recipe: Recipe, *others: str) -> Path:
        """Return the path of the run of a recipe."""
        digest = _digest({"about": self.about, "recipe": asdict(recipe), "others": others})
        return self.out / folder / f"{_clean(self.stem)}-{suffix}-{digest}"


def _extracted(table: ExtractTable) -> Sequence[str]:
    """Return the layers to store for a table."""
    return [part for layer in table.layer if layer != "all" for part in layer.split("+")]


def _joined(table: ExtractTable) -> Iterator[tuple[str, int | None, tuple[ExtractOptions, ...]]]:
    """Yield each name and image size of a table, with the networks that the name joins."""
    for name, size in itertools.product(table.backbone, table.sizes):
        parts = name.split("+")
        yield name, size, tuple(replace(table.options, backbone=part, image_size=size) for part in parts)


def _identity(options: BackboneOptions) -> dict[str, Any]:
    """Return what a digest holds of the options of a network; a weights file is identified by path, size and time."""
    weights: Any = options.weights
    if weights and (file := Path(weights)).is_file():
        stat = file.stat()
        weights = [str(file.absolute()), stat.st_size, stat.st_mtime_ns]
    named = {"backbone": options.backbone, "weights": weights, "image_size": options.image_size}
    return {**_changes(options, ("from_scratch", "cached", *_UNNAMED)), **named}


def _of_head(options: TrainHeadOptions, data: Data, networks: Sequence[ExtractOptions]) -> dict[str, Any]:
    """Return what the name of the run of a head depends on."""
    search = {"method": options.search or "grid", "trials": options.trials} if options.searches else None
    job = [
        options.head,
        options.params,
        options.layer,
        search,
        options.cv,
        options.project,
        options.seed,
        options.device,
    ]
    document = {
        "job": job,
        "data": [data.digest, options.fractions, *([data.columns] if options.with_columns else [])],
        "backbones": [_identity(each) for each in networks],
    }
    listed = ("head", "params", "layer", "search", "trials", "cv", "project", "seed", "device", "fractions")
    return {**_changes(options, listed), **document}


def _changes(options: Options, listed: Sequence[str]) -> dict[str, Any]:
    """Return the settings that differ from their defaults, apart from those that a digest lists anyway.

    A setting that a release adds leaves the names of the outputs of earlier studies as they are.
    """
    settings = options.settings()
    changes = options.changes().items()
    return {name: value for name, value in changes if name in settings and name not in listed}


def _listing(table: ImageTable) -> str:
    """Return a digest of names, labels, splits, groups and sizes, without times, which change on copying."""
    digest = hashlib.sha256("\0".join(table.classes).encode())
    for column in (table.ids, table.labels, table.split, table.groups, table.stamps[:, : STAMP_BYTES // 2]):
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def _columns(table: ImageTable) -> str:
    """Return a digest of the side columns."""
    digest = hashlib.sha256()
    for column in table.columns:
        digest.update(f"{column.name}\0{column.values.dtype}\0".encode())
        digest.update(column.values.tobytes())
    return digest.hexdigest()


def _stem(data: Data, backbone: str, image_size: int | None) -> str:
    size = f".{image_size}px" if image_size else ""
    return _clean(f"{source_name(data.path)}.{backbone}{size}")


def _clean(name: str) -> str:
    """Replace characters that are not suitable for a file name."""
    return re.sub(r"[^\w.+-]+", "-", name)


def _digest(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
