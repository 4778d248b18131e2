"""The commands that repeat a run."""

import shlex
from collections.abc import Mapping
from typing import Any

from features.decoding import decoder_of
from features.engines import kind_of
from pipeline.runs import CacheRecord, Run

__all__ = ["repeating_commands"]


def repeating_commands(run: Run) -> list[str]:
    """Command lines for a shell: extract each cache, train, and evaluate where that was done; none for other kinds of runs.

    Whatever was left open to Frostline is named as it was chosen, where features depend on it.
    """
    asked = run.record.get("asked")
    if asked is None or run.tuned:
        return []
    again = f"{run.path}-again"
    lines = [*map(_extract, run.caches), _train(run, asked, again)]
    if run.looks():
        lines.append(shlex.join(["frostline", "evaluate", again]))
    return lines


def _extract(cache: CacheRecord) -> str:
    spec = cache.spec
    words = ["frostline", "extract", cache.source, "--backbone", spec.backbone]
    words += ["--weights", cache.weights] if cache.weights else []
    words += [word for layer in spec.layers for word in ("--layer", layer.key)]
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


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
