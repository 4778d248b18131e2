"""Validation of the jobs to run: every backbone, layer and stage is looked up before anything is computed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from frostline.features.backbones import BackboneInfo, describe, find_stage, list_stages, resolve_layers
from frostline.features.backbones.weights import seed_of_random_weights
from frostline.features.errors import FeaturesError
from frostline.features.spec import Layer
from frostline.pipeline.progress import Reporter
from frostline.pipeline.studies.jobs.kinds import (
    STAGES,
    Backbone,
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
            return self._gflops(job.backbone) * job.data.images
        if isinstance(job, Candidate | FineTuning):
            return self._gflops(job.training.backbone) * job.training.data.images * job.recipe.epochs
        if isinstance(job, HeadTraining):
            known = [self.layers[cache.name] for cache in job.caches if cache.name in self.layers]
            return float(job.data.images * sum(layer.dim for layers in known for layer in layers))
        return 0.0

    def _gflops(self, backbone: Backbone) -> float:
        info = self.backbones.get(backbone.backbone)
        if info is None:
            return 1.0
        size = backbone.image_size
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
            name = _backbone(job).backbone
            try:
                if not name.startswith("run:"):
                    looked[name] = described(name)
                if isinstance(job, Extraction):
                    layers[job.cache.name] = layers.get(job.cache.name) or resolve_layers(name, job.layers)
                elif job.recipe.frost_line not in {"none", "all"}:
                    find_stage(stages(name), job.recipe.frost_line)
            except FeaturesError as error:
                named = (name, *getattr(job, "layers", ()))
                words = [word for word in named if repr(word) in str(error)]
                raise plan.error(str(error), job, *words, "frost-line") from error
            _check_weights(plan, job, looked.get(name))
            advance(1)
    return Known(looked, layers)


def _check_weights(plan: Plan, job: _NetworkJob, info: BackboneInfo | None) -> None:
    """Raise `StudyError` for missing or contradictory weights."""
    network = _backbone(job)
    scratch = not isinstance(job, Extraction) and job.training.from_scratch
    if network.weights:
        problem, word = _weights_problem(network.weights, scratch=scratch), "weights"
    elif not isinstance(job, Extraction) and scratch:
        problem, word = _scratch_problem(job.recipe.frost_line), "frost-line"
    else:
        problem, word = _pretrained_problem(network.backbone, info), network.backbone
    if problem:
        raise plan.error(problem, job, word)


def _weights_problem(weights: str, *, scratch: bool) -> str:
    if seed_of_random_weights(weights) is None and not Path(weights).is_file():
        return f"weights {weights!r}: no such file"
    return "weights: training from scratch uses no weights; drop one of the two" if scratch else ""


def _scratch_problem(frost_line: str) -> str:
    if frost_line == "none":
        return ""
    return f"frost line {frost_line!r}: freezing needs pretrained weights; drop frost-line or from-scratch"


def _pretrained_problem(name: str, info: BackboneInfo | None) -> str:
    if info is None or info.weights != "none":
        return ""
    return f"backbone {name} has no pretrained weights; set weights, or from-scratch = true in [[finetune]]"


def _backbone(job: _NetworkJob) -> Backbone:
    return job.backbone if isinstance(job, Extraction) else job.training.backbone


def cheap_first(jobs: Sequence[Job], known: Known) -> list[Job]:
    """Sort jobs by stage, and within a stage by cost."""
    return sorted(jobs, key=lambda job: (STAGES.index(job.stage), known.work(job)))
