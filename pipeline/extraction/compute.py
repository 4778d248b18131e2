"""Computation of the missing rows of a cache; existing rows are kept."""

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from frostline.features.backbones import Backbone
from frostline.features.cache import CacheWriter, FeatureCache, made_with, open_writer
from frostline.features.engines import Engine
from frostline.features.engines.engine import Features
from frostline.features.images.batches import Batch, load_batches
from frostline.features.machine import describe_machine
from frostline.features.spec import FeatureSpec, Layer
from frostline.features.table import OK, ImageSource
from frostline.pipeline.extraction.engine_choice import Computation, plan_computation
from frostline.pipeline.inputs.unreadable import report_remarks
from frostline.pipeline.options.extraction import CacheOptions
from frostline.system.energy import EnergyMeter


@dataclass(frozen=True)
class FillResult:
    """A complete cache and the work that completed it.

    Attributes:
        cache: The cache, or the requested part of it.
        computed: Number of rows computed by this call.
        copied: Number of rows copied from an earlier cache because the image bytes are equal.
        resumed: Number of rows that an interrupted run had already committed.
        forward_seconds: Wall time of the forward stage alone.
        remarks: Remark by name on each computed image whose pixels may not mean what its file says.
    """

    cache: FeatureCache
    computed: int = 0
    copied: int = 0
    resumed: int = 0
    forward_seconds: float = 0.0
    remarks: Mapping[str, str] = field(default_factory=dict)

    @property
    def images_per_second(self) -> float:
        """Rate of the forward stage; 0 if nothing was computed."""
        return self.computed / self.forward_seconds if self.computed else 0.0


def fill_cache(
    source: ImageSource, net: Backbone, layers: tuple[Layer, ...], path: Path, options: CacheOptions
) -> FillResult:
    """Compute the features of every image that the cache at `path` does not hold yet.

    Args:
        source: The images.
        net: The backbone and its image transform.
        layers: Layers to store.
        path: Path of the cache.
        options: Engine, precision, device, storage format, and the part to compute.

    Returns:
        The complete cache. If the call is interrupted, repeating it resumes from the last committed block.

    Raises:
        FeaturesError: The images, the backbone or the cache are not usable; the subclass identifies the cause.
    """
    filled = compute(source, net, plan_computation(net, layers, source, path, options), path, options)
    report_remarks(filled.remarks, options.report)
    return filled


def compute(
    source: ImageSource, net: Backbone, computation: Computation, path: Path, options: CacheOptions
) -> FillResult:
    """Compute the features that a cache does not hold yet as planned; see `fill_cache`. Remarks are not reported."""
    opened = _open(path, computation, source, net, options)
    if isinstance(opened, FeatureCache):
        return FillResult(opened)
    with opened as writer:
        _note_move(path, source, options)
        copied, resumed, computed = writer.copied, writer.resumed, len(writer.todo)
        if not computed:
            return FillResult(writer.finish(), 0, copied, resumed)
        engine = computation.engine(net, writer.path, computed)
        started = time.perf_counter()
        done, remarks = _fill(writer, net, engine, computation.spec, options)
        return FillResult(done, computed, copied, resumed, time.perf_counter() - started, remarks)


def _open(
    path: Path,
    computation: Computation,
    source: ImageSource,
    net: Backbone,
    options: CacheOptions,
) -> FeatureCache | CacheWriter:
    with options.report.task("Looking for known images", len(source.table.ids)) as advance:
        seen = 0

        def progress(done: int, _total: int) -> None:
            nonlocal seen
            advance(done - seen)
            seen = done

        return open_writer(
            path,
            computation.spec,
            source,
            part=options.part,
            weights=net.origin,
            weights_note=net.note,
            check=computation.check,
            machine=describe_machine(computation.plan.device) if computation.plan else "",
            overwrite=options.overwrite,
            rehash=options.rehash,
            progress=progress,
        )


def _note_move(path: Path, source: ImageSource, options: CacheOptions) -> None:
    """Report that an existing cache was extracted from another place, which `open_writer` accepted."""
    earlier = None if options.overwrite else made_with(path, options.part)
    if earlier and earlier.origin.source != source.root:
        options.report.note(
            f"{path} was extracted from {earlier.origin.source}. {source.root} holds the same data set: known features are kept."
        )


def _fill(
    writer: CacheWriter, net: Backbone, engine: Engine, spec: FeatureSpec, options: CacheOptions
) -> tuple[FeatureCache, dict[str, str]]:
    """Compute and write the missing rows; return the cache and the remarks on their images by name."""
    remarks: dict[str, str] = {}
    with options.report.task("Extracting", writer.rows) as advance:
        advance(writer.rows - len(writer.todo))
        batches = load_batches(
            writer.source,
            writer.todo,
            net.transform,
            batch_size=engine.batch_size,
            workers=options.workers,
            block_rows=writer.block_rows,
            decoder=options.decoder,
            views=spec.views,
            seed=spec.seed,
        )
        meter = EnergyMeter(spec.device)
        began = time.perf_counter()

        def put(batch: Batch, outputs: Features) -> None:
            nonlocal began
            ended = time.perf_counter()
            writer.put(
                batch.rows,
                outputs,
                content=batch.content,
                stamps=batch.stamps,
                status=batch.status,
                errors=batch.errors,
                seconds=ended - began,
                joules=meter.joules(),
            )
            began = ended
            remarks.update(
                (os.fsdecode(writer.source.table.ids[row]), text) for row, text in batch.remarks.items()
            )
            advance(len(batch.rows))

        def readable() -> Iterator[Batch]:
            for batch in batches:
                if (batch.status == OK).any():
                    yield batch
                else:  # thousands of missing files take no forward pass
                    put(batch, _nothing(batch, spec))

        for batch, outputs in engine.run(readable()):
            put(batch, outputs)
        return writer.finish(), remarks


def _nothing(batch: Batch, spec: FeatureSpec) -> Features:
    """Return features for a batch without a readable image. The cache stores none for such rows."""
    return {
        layer.key: np.zeros((len(batch.rows), spec.views, layer.dim), np.float32) for layer in spec.layers
    }
