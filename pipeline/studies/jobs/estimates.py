"""Estimates of the costs of jobs: each kind of job is timed on a few images or rows and extrapolated."""

import dataclasses
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from frostline.classifiers.fitting.fit import fit_head
from frostline.classifiers.fitting.inputs import FitOptions, LabelledRows
from frostline.classifiers.heads.catalog import find_head
from frostline.classifiers.saving.head_files import save_head
from frostline.features.backbones import Backbone, find_stage, trunk
from frostline.features.engines import Engine, Plan
from frostline.features.errors import EngineError
from frostline.features.images.batches import load_batches
from frostline.features.sources import open_source
from frostline.features.spec import Layer
from frostline.pipeline.errors import StudyError
from frostline.pipeline.extraction.engine_choice import possible_plans
from frostline.pipeline.inputs.networks import load_network
from frostline.pipeline.options.extraction import BackboneOptions
from frostline.pipeline.options.learning.tuning import FinetuneOptions
from frostline.pipeline.studies.jobs.checks import Known
from frostline.pipeline.studies.jobs.kinds import (
    Candidate,
    Extraction,
    FineTuning,
    HeadTraining,
    Job,
)
from frostline.system.resources import memory_in_use

_IMAGES = 32
_ROWS = 400
_STEP = 16  # images per step
_REPEATS = 3  # the fastest one counts, to exclude other load of the machine
_LAYER_COPIES = 2  # activations and their gradients
_WEIGHT_COPIES = 4  # weights, gradients, momentum and the best epoch
_STORED_BYTES = 2
_SMALL = 200_000  # bytes of the tables and plots of a run


@dataclass(frozen=True)
class Estimate:
    """Estimated costs of a job.

    Attributes:
        seconds: Wall time on an otherwise idle machine.
        memory: Peak memory of the process in bytes.
        disk: Size of the output in bytes.
    """

    seconds: float
    memory: int
    disk: int


@dataclass(frozen=True)
class _Line:
    """A linear function through two points, with non-negative start and slope."""

    start: float
    slope: float

    def __call__(self, size: float) -> float:
        return max(0.0, self.start + self.slope * size)

    @classmethod
    def through(cls, near: tuple[float, float], far: tuple[float, float]) -> "_Line":
        slope = max(0.0, (far[1] - near[1]) / (far[0] - near[0]))
        return cls(max(0.0, far[1] - slope * far[0]), slope)


class Estimator:
    """Cost estimator that times each network and each head once, with random weights so that nothing is downloaded.

    Args:
        known: Information on the backbones.
    """

    def __init__(self, known: Known) -> None:
        self._known = known
        self._forward: dict[Any, tuple[float, float, int]] = {}
        self._heads: dict[Any, tuple[_Line, _Line]] = {}
        self._steps: dict[Any, _Step] = {}

    def estimate(self, job: Job) -> Estimate:
        """Estimate the costs of a job."""
        if isinstance(job, Extraction):
            return self._extraction(job)
        if isinstance(job, HeadTraining):
            return self._head(job)
        if isinstance(job, Candidate | FineTuning):
            return self._training(job)
        raise StudyError(f"{job.path.name}: a {job.stage} job can't be estimated")

    def _extraction(self, job: Extraction) -> Estimate:
        layers = self._known.layers[job.cache.name]
        if job.done():  # the cache exists and is only checked
            return Estimate(0.0, memory_in_use(), 0)
        key = (job.options, job.data.path)
        if key not in self._forward:
            self._forward[key] = _time_engine(job, layers)
        start, each, memory = self._forward[key]
        width = sum(layer.dim for layer in layers) * job.options.views
        return Estimate(
            start + each * job.data.images, memory, job.data.images * (width * _STORED_BYTES + 200)
        )

    def _head(self, job: HeadTraining) -> Estimate:
        options, width = job.options, self._width(job)
        rows = round(job.data.images * (1 - options.fractions[2]))
        key = (repr(dataclasses.replace(options, seed=0)), width, job.data.classes)
        if key not in self._heads:
            self._heads[key] = _time_head(job, width)
        seconds, disk = self._heads[key]
        trials = _trials(job, rows)
        copies = 3 * rows * width * 4
        return Estimate(seconds(rows) * trials, memory_in_use() + copies, round(disk(rows)) + _SMALL)

    def _width(self, job: HeadTraining) -> int:
        """Return the number of features that the head reads."""
        if job.options.project:
            return int(job.options.project.partition(":")[2])
        widths = []
        for cache in job.caches:
            layers = self._known.layers.get(cache.name)
            if layers is None:  # the cache exists, so its backbone was not looked up
                from frostline.features.cache import FeatureCache

                layers = FeatureCache.open(cache).layers
            wanted = (job.options.layer or "").split("+")
            widths.append(
                sum(each.dim for each in layers if {each.key, each.name} & set(wanted)) or layers[0].dim
            )
        return sum(widths)

    def _training(self, job: Candidate | FineTuning) -> Estimate:
        options, recipe, data = job.options, job.options.recipe, job.data
        key = (options.backbone, options.image_size, recipe.frost_line)
        if key not in self._steps:
            self._steps[key] = _Step(options)
        step = self._steps[key]
        train, val = (round(data.images * share) for share in options.fractions[:2])
        seconds = recipe.epochs * (train * step.update + val * step.forward)
        if (
            step.frozen
            and not recipe.randomises
            and not recipe.unfreeze_every
            and options.cached is not False
        ):
            spared = step.below * step.forward
            seconds += data.images * spared - recipe.epochs * (train + val) * spared
        batch = min(recipe.batch_size // recipe.accumulate, data.images)
        held = 4 * (_WEIGHT_COPIES * step.parameters + _LAYER_COPIES * batch * step.activations)
        return Estimate(seconds, memory_in_use() + held, 4 * step.parameters + _SMALL)


def _time_engine(job: Extraction, layers: tuple[Layer, ...]) -> tuple[float, float, int]:
    """Return the start-up time in seconds, the seconds per image, and the memory of the process in bytes."""
    options = job.options
    net = _network(options)
    with closing(
        open_source(job.data.opened, limit=options.limit, **options.reading(), access=options.access())
    ) as source:
        began = time.perf_counter()
        plans = possible_plans(net, options, len(source.table))
        engine = _built(net, layers, plans)
        count = min(len(source.table), _IMAGES)
        rows = np.unique(np.linspace(0, len(source.table) - 1, count, dtype=np.int64))

        def run(some: Any) -> float:
            started = time.perf_counter()
            batches = load_batches(
                source,
                some,
                net.transform,
                batch_size=engine.batch_size,
                block_rows=len(source.table),
                decoder=options.decoder,
                views=options.views,
            )
            for _ in engine.run(batches):
                pass
            return time.perf_counter() - started

        run(rows[:1])  # the first pass allocates
        start = time.perf_counter() - began
        return start, run(rows) / len(rows), memory_in_use()


def _built(net: Backbone, layers: tuple[Layer, ...], plans: Sequence[Plan]) -> Engine:
    """Build the first plan whose engine supports the network."""
    problem: EngineError | None = None
    for plan in plans:
        try:
            return plan.build(net, layers)
        except EngineError as error:
            problem = error
    raise problem or EngineError("no engine to try")


def _network(options: BackboneOptions) -> Backbone:
    """Return the network with random weights, so that none are downloaded, unless it was fine-tuned."""
    tuned = options.backbone.startswith("run:")
    return load_network(dataclasses.replace(options, weights=None if tuned else "random"))


def _time_head(job: HeadTraining, width: int) -> tuple[_Line, _Line]:
    """Return seconds and bytes of a head as functions of its rows; for a search, of one candidate."""
    rows = max(_ROWS, 4 * job.data.classes)
    points = [_time_fit(job, width, count) for count in (rows // 2, rows)]
    (half, *first), (whole, *second) = points
    return (
        _Line.through((half, first[0]), (whole, second[0])),
        _Line.through((half, first[1]), (whole, second[1])),
    )


def _time_fit(job: HeadTraining, width: int, rows: int) -> tuple[float, float, float]:
    """Return rows, seconds and bytes of a head on synthetic features of overlapping classes."""
    rng = np.random.default_rng(0)
    classes = max(job.data.classes, 2)
    y = np.arange(rows) % classes
    X = (rng.normal(size=(classes, width))[y] + 2 * rng.normal(size=(rows, width))).astype(np.float32)
    train = np.arange(rows * 3 // 4)
    options, params = job.options, dict(job.options.params or {})
    if options.searches:
        params |= find_head(options.head, options.trusted).candidates(params, len(train))[0]
    names = [str(number) for number in range(classes)]
    synthetic = LabelledRows(X, y, train, np.arange(len(train), rows), names)
    started = time.perf_counter()
    fitting = FitOptions(params, options.seed, options.device, trusted=options.trusted)
    fitted = fit_head(options.head, synthetic, fitting)
    seconds = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        save_head(fitted, Path(folder))
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
    return rows, seconds, float(size)


def _trials(job: HeadTraining, rows: int) -> int:
    """Return the number of fits of the job."""
    options = job.options
    if not options.searches:
        return 1
    grid = len(find_head(options.head, options.trusted).candidates(options.params or {}, rows))
    count = options.trials or (grid if options.search in {None, "grid"} else 30)
    return count * (options.cv or 1) + 1


class _Step:
    """A network in training, timed on a few images.

    Attributes:
        frozen: Number of stages below the frost line.
        below: Fraction of the operations below the frost line.
        parameters: Number of parameters of the whole network.
        activations: Number of activations per image.
    """

    def __init__(self, options: FinetuneOptions) -> None:
        net = _network(options)
        stages, line = net.stages(), options.recipe.frost_line
        self.frozen = {"none": 0, "all": len(stages)}.get(line, -1)
        if self.frozen < 0:
            self.frozen = find_stage(stages, line) + 1
        whole = sum(stage.flops for stage in stages) or 1
        self.below = sum(stage.flops for stage in stages[: self.frozen]) / whole
        self._body = trunk(net)
        lower = stages[: self.frozen]
        for name, parameter in self._body.named_parameters():
            parameter.requires_grad_(not any(stage.owns(name) for stage in lower))
        self._pixels = torch.zeros(_STEP, 3, *net.transform.crop)
        self.parameters = sum(parameter.numel() for parameter in self._body.parameters())
        self.activations = sum(int(np.prod(info.shape)) for info in net.layers().values())

    @cached_property
    def forward(self) -> float:
        """Seconds per image of a validation pass."""
        self._body.eval()
        with torch.no_grad():
            return self._timed(lambda: self._body(self._pixels))

    @cached_property
    def update(self) -> float:
        """Seconds per image of an update."""
        self._body.train()

        def once() -> None:
            output = self._body(self._pixels)
            if output.requires_grad:
                output.sum().backward()

        return self._timed(once)

    def _timed(self, call: Callable[[], Any]) -> float:
        call()  # the first call allocates
        seconds = []
        for _ in range(_REPEATS):
            started = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - started)
        return min(seconds) / _STEP
