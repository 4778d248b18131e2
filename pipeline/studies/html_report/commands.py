"""Command lines that repeat a run."""

import contextlib
import dataclasses
from pathlib import PurePosixPath, PureWindowsPath
from typing import cast

from frostline.escapes import visible
from frostline.features.cache.imported.facts import declared_facts, imported_name, tells_images
from frostline.features.engines import kind_of
from frostline.features.errors import SourceError
from frostline.features.images.decoders import decoder_of
from frostline.features.sources import find_kind
from frostline.pipeline.options.extraction import AnyDevice, ExtractOptions
from frostline.pipeline.options.learning.heads import TrainHeadOptions
from frostline.pipeline.options.learning.tuning import FinetuneOptions
from frostline.pipeline.options.vectors.importing import ImportOptions
from frostline.pipeline.runs.record import CacheRecord, HeadRun, TunedRun
from frostline.pipeline.runs.run import Run
from frostline.shell import as_argument, shell_command


def repeating_commands(run: Run) -> list[str]:
    """Return shell commands that extract each cache and train, or fine-tune, and evaluate if the run was evaluated.

    Automatic choices that the features depend on, such as the engine, are given explicitly.
    """
    again = f"{run.path}-again"
    record = run.record
    if isinstance(record, TunedRun):
        lines = [_finetune(record, again)]
    else:
        options = record.train_options() or _selected_settings(record)
        caches = "+".join(cache.path for cache in run.caches)
        words = dataclasses.replace(options, run=again).arguments()
        lines = [
            *(_import(each) if each.spec.is_imported else _extract(each) for each in run.caches),
            shell_command("frostline", "train-head", as_argument(caches), *words),
        ]
    if run.ledger.file.exists():
        lines.append(shell_command("frostline", "evaluate", as_argument(again)))
    return lines


def _import(cache: CacheRecord) -> str:
    """Return the command that imports vectors again; how the file was read is not recorded."""
    spec = cache.spec
    file = "FILE" if tells_images(spec) or cache.source.startswith("memory:") else cache.source
    options = ImportOptions(
        name=imported_name(spec),
        declare=declared_facts(spec),
        images=cache.source if tells_images(spec) else None,
        dtype=spec.dtype,
        out=cache.path,
    )
    return shell_command("frostline", "cache", "import", as_argument(file), *options.arguments())


def _extract(cache: CacheRecord) -> str:
    spec = cache.spec
    rows, columns = spec.transform.crop
    options = ExtractOptions(
        backbone=spec.backbone,
        weights=cache.weights,
        layers=tuple(layer.key for layer in spec.layers),
        image_size=rows if rows == columns else None,
        views=spec.views,
        seed=spec.seed,
        engine=kind_of(spec.engine) or "auto",
        precision=spec.precision,
        store=spec.dtype,
        device=cast("AnyDevice", spec.device),
        decoder=decoder_of(spec.decoder),
        cache=cache.path,
        **cache.reading,
    )
    return _command(cache.source, ["frostline", "extract", as_argument(cache.source), *options.arguments()])


def _selected_settings(record: HeadRun) -> TrainHeadOptions:
    """Return the selected settings in place of the options, which a run of version 1 does not record."""
    return TrainHeadOptions(
        record.head.kind,
        params=record.head.params,
        layer=record.layer,
        seed=record.seed,
        fractions=record.split.fractions,
    )


def _finetune(record: TunedRun, again: str) -> str:
    settings = record.finetune
    (cache,) = record.caches
    options = FinetuneOptions(
        backbone=settings.backbone,
        weights=None if settings.from_scratch else settings.weights,
        image_size=settings.image_size,
        from_run=settings.from_run,
        from_scratch=settings.from_scratch,
        cached=True if settings.cache else None,
        limit=settings.limit,
        **cache.reading,
        fractions=record.split.fractions,
        recipe=settings.recipe,
        run=again,
    )
    return _command(cache.source, ["frostline", "finetune", as_argument(cache.source), *options.arguments()])


def _command(source: str, words: list[str]) -> str:
    """Return a shell command, or a comment if it can't open the source of the images by its name."""
    line = shell_command(*words)
    if _is_known_by_name(source):
        return line
    return f"# In Python, with the source {visible(source)} and these options:\n# {line}"


def _is_known_by_name(source: str) -> bool:
    """Return whether the command line can open a source: a path, perhaps of another machine, or a name."""
    if PurePosixPath(source).is_absolute() or PureWindowsPath(source).is_absolute():
        return True
    with contextlib.suppress(SourceError):  # of a broken package, which may open the name once it is repaired
        return find_kind(source) is not None
    return True
