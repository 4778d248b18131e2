"""The commands that repeat a run."""

import dataclasses
import shlex
from collections.abc import Mapping
from typing import Any

from frostline.features.engines import kind_of
from frostline.features.images.decoding import decoder_of
from frostline.pipeline.runs.directory import CacheRecord, Run
from frostline.pipeline.tuning.recipe import Recipe


def repeating_commands(run: Run) -> list[str]:
    """Command lines for a shell: extract each cache and train, or fine-tune; and evaluate where that was done.

    Whatever was left open to Frostline is named as it was chosen, where features depend on it.
    """
    again = f"{run.path}-again"
    if run.tuned:
        lines = [_finetune(run, again)]
    else:
        lines = [*map(_extract, run.caches), _train(run, run.record["asked"], again)]
    if run.looks():
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


def _train(run: Run, asked: Mapping[str, Any], again: str) -> str:
    words = ["frostline", "train-head", "+".join(cache.path for cache in run.caches), "--head", asked["head"]]
    words += [
        word for name, value in asked["params"].items() for word in ("--param", f"{name}={_text(value)}")
    ]
    options = {"layer": asked["layer"], "project": asked["project"], "cv": asked["cv"]}
    search = asked["search"] or {}
    options |= {"search": search.get("method"), "trials": search.get("trials"), "jobs": search.get("jobs")}
    options |= {name: asked.get(name) for name in ("seed", "device", "memory")}
    words += [
        word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))
    ]
    words += ["--fractions", *map(str, asked["fractions"]), "--run", again]
    return shlex.join(words)


def _finetune(run: Run, again: str) -> str:
    settings = run.record["finetune"]
    (cache,) = run.caches
    words = ["frostline", "finetune", cache.source, "--backbone", settings["backbone"]]
    scratch = settings["from_scratch"]
    options = {name: settings[name] for name in ("image_size", "from_run", "limit")}
    options |= {} if scratch else {"weights": settings["weights"]}
    own = dataclasses.asdict(Recipe())
    options |= {name: value for name, value in settings["recipe"].items() if value != own[name]}
    for name, value in options.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        elif value is not None:
            words += [f"--{option}", str(value)]
    words += ["--from-scratch"] if scratch else []
    words += ["--cached"] if settings["cache"] else []
    return shlex.join([*words, "--fractions", *map(str, run.record["split"]["fractions"]), "--run", again])


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
