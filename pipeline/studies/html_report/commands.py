"""Command lines that repeat a run."""

import dataclasses
import shlex
from typing import Any

from frostline.features.engines import kind_of
from frostline.features.images.decoders import decoder_of
from frostline.pipeline.runs.record import Asked, CacheRecord, HeadRun, TunedRun
from frostline.pipeline.runs.run import Run
from frostline.pipeline.tuning.recipe import Recipe


def repeating_commands(run: Run) -> list[str]:
    """Return shell commands that extract each cache and train, or fine-tune, and evaluate if the run was evaluated.

    Automatic choices that the features depend on, such as the engine, are given explicitly.
    """
    again = f"{run.path}-again"
    record = run.record
    if isinstance(record, TunedRun):
        lines = [_finetune(run, record, again)]
    else:
        lines = [*map(_extract, run.caches), _train(run, record.asked or _selected_settings(record), again)]
    if run.ledger.entries():
        lines.append(shlex.join(["frostline", "evaluate", again]))
    return lines


def _extract(cache: CacheRecord) -> str:
    spec = cache.spec
    words = ["frostline", "extract", cache.source, "--backbone", spec.backbone]
    words += ["--weights", cache.weights] if cache.weights else []
    words += [word for layer in spec.layers for word in ("--layer", layer.key)]
    rows, columns = spec.transform.crop
    words += ["--image-size", str(rows)] if rows == columns else []
    words += ["--views", str(spec.views), "--seed", str(spec.seed)] if spec.views > 1 else []
    engine = kind_of(spec.engine)
    words += ["--engine", engine] if engine else []
    words += ["--precision", spec.precision, "--store", spec.dtype, "--device", spec.device]
    words += ["--decoder", decoder_of(spec.decoder), "--cache", cache.path]
    return shlex.join(words)


def _selected_settings(record: HeadRun) -> Asked:
    """Return the selected settings in place of the arguments, which a run of version 1 does not record."""
    return Asked(
        head=record.head.kind,
        params=record.head.params,
        layer=record.layer,
        project=None,
        search=None,
        cv=None,
        seed=record.seed,
        device="auto",
        fractions=record.split.fractions,
    )


def _train(run: Run, asked: Asked, again: str) -> str:
    words = ["frostline", "train-head", "+".join(cache.path for cache in run.caches), "--head", asked.head]
    words += [word for name, value in asked.params.items() for word in ("--param", f"{name}={_text(value)}")]
    options: dict[str, Any] = {"layer": asked.layer, "project": asked.project, "cv": asked.cv}
    if asked.search:
        search = asked.search
        options |= {"search": search.method, "trials": search.trials, "jobs": search.jobs}
    options |= {"seed": asked.seed, "device": asked.device, "memory": asked.memory}
    words += [
        word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))
    ]
    words += ["--fractions", *map(str, asked.fractions), "--run", again]
    return shlex.join(words)


def _finetune(run: Run, record: TunedRun, again: str) -> str:
    settings = record.finetune
    (cache,) = run.caches
    words = ["frostline", "finetune", cache.source, "--backbone", settings.backbone]
    options: dict[str, Any] = {
        "image_size": settings.image_size,
        "from_run": settings.from_run,
        "limit": settings.limit,
    }
    options |= {} if settings.from_scratch else {"weights": settings.weights}
    own = dataclasses.asdict(Recipe())
    options |= {name: value for name, value in settings.recipe.items() if value != own.get(name)}
    for name, value in options.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        elif value is not None:
            words += [f"--{option}", str(value)]
    words += ["--from-scratch"] if settings.from_scratch else []
    words += ["--cached"] if settings.cache else []
    return shlex.join([*words, "--fractions", *map(str, record.split.fractions), "--run", again])


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
