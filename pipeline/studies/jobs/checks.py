"""Validation of the jobs to run: every backbone, layer and stage is looked up before anything is computed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from frostline.features.backbones import BackboneInfo, describe, find_stage, list_stages, resolve_layers
from frostline.features.backbones.weights import seed_of_random_weights
from frostline.features.errors import FeaturesError
from frostline.features.spec import Layer
from frostline.pipeline.options.extraction import BackboneOptions
from frostline.pipeline.progress import Reporter
from frostline.pipeline.studies.jobs.kinds import (
    STAGES,
    Candidate,
    Extraction,
    FineTuning,
    HeadTraining,
    Job,
)
from frostline.pipeline.studies.jobs.plan import Plan

_NetworkJob = Extraction | Candidate | FineTuning


@dataclass(frozen=True)
class Known:
    """Information on the backbones of a study.

    Attributes:
        backbones: Information by name of the backbone, without those named ``run:DIR``.
        layers: Layers by name of the cache.
    """

    backbones: Mapping[str, BackboneInfo]
    layers: Mapping[str, tuple[Layer, ...]]

    def work(self, job: Job) -> float:
        """Return a rough cost to sort the jobs of one stage by: 10^9 multiply-adds, or numbers to read."""
        if isinstance(job, Extraction):
            return self._gflops(job.options) * job.data.images
        if isinstance(job, Candidate | FineTuning):
            return self._gflops(job.options) * job.data.images * job.options.recipe.epochs
        if isinstance(job, HeadTraining):
            known = [self.layers[cache.name] for cache in job.caches if cache.name in self.layers]
            return float(job.data.images * sum(layer.dim for layers in known for layer in layers))
        return 0.0

    def _gflops(self, options: BackboneOptions) -> float:
        info = self.backbones.get(options.backbone)
        if info is None:
            return 1.0
        size = options.image_size
        return info.gflops * (size * size / (info.input_size[0] * info.input_size[1]) if size else 1)


def check_jobs(plan: Plan, jobs: Sequence[Job], report: Reporter) -> Known:
    """Look up the backbones, layers and stages of jobs.

    Raises:
        StudyError: A name is unknown; the message gives the line and close matches.
    """
    networks = [job for job in jobs if isinstance(job, _NetworkJob)]
    looked: dict[str, BackboneInfo] = {}
    layers: dict[str, tuple[Layer, ...]] = {}
    described, stages = cache(describe), cache(list_stages)
    with report.task("Checking names", len(networks)) as advance:
        for job in networks:
            name = job.options.backbone
            try:
                for each in job.options.declared():
                    if each.names:
                        each.look_up(getattr(job.options, each.name))
                if not name.startswith("run:"):
                    looked[name] = described(name)
                if isinstance(job, Extraction):
                    layers[job.cache.name] = layers.get(job.cache.name) or resolve_layers(
                        name, job.options.layers
                    )
                elif job.options.recipe.frost_line not in {"none", "all"}:
                    find_stage(stages(name), job.options.recipe.frost_line)
            except FeaturesError as error:
                named = (name, *getattr(job.options, "layers", ()), *job.options.changes().values())
                words = [str(word) for word in named if repr(word) in str(error)]
                raise plan.error(str(error), job, *words, "frost-line") from error
            for problem, word in _weights_problems(job, looked.get(name)):
                raise plan.error(problem, job, word)
            advance(1)
    return Known(looked, layers)


def _weights_problems(job: _NetworkJob, info: BackboneInfo | None) -> Iterator[tuple[str, str]]:
    """Yield each problem of missing or contradictory weights, and the word whose line is named."""
    weights, tuning = job.options.weights, None if isinstance(job, Extraction) else job.options
    start, scratch = tuning and tuning.from_run, tuning is not None and tuning.from_scratch
    if weights and seed_of_random_weights(str(weights)) is None and not Path(weights).is_file():
        yield f"weights {weights!r}: no such file", "weights"
    if start and not Path(start).is_dir():
        yield f"from-run {start!r}: no such folder", "from-run"
    if scratch and (weights or start):
        word = "weights" if weights else "from-run"
        yield f"{word}: training from scratch uses no {word}; drop one of the two", word
    if tuning and scratch and tuning.recipe.frost_line != "none":
        line = tuning.recipe.frost_line
        problem = "freezing needs pretrained weights; drop frost-line or from-scratch"
        yield f"frost line {line!r}: {problem}", "frost-line"
    if info is not None and info.weights == "none" and not (weights or start or scratch):
        name = job.options.backbone
        remedy = "set weights, or from-scratch = true in [[finetune]]"
        yield f"backbone {name} has no pretrained weights; {remedy}", name


def cheap_first(jobs: Sequence[Job], known: Known) -> list[Job]:
    """Sort jobs by stage, and within a stage by cost."""
    return sorted(jobs, key=lambda job: (STAGES.index(job.stage), known.work(job)))
