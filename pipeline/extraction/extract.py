"""The extract stage: every image of a data set through a frozen backbone, once, into a cache."""

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from frostline.features.backbones import load_backbone
from frostline.features.cache import FeatureCache, Part
from frostline.features.fidelity import MIN_COSINE, Check
from frostline.features.images.decoding import Decoder
from frostline.features.spec import Dtype
from frostline.features.table import ImageSource
from frostline.pipeline.errors import LimitError, TooManyBadImagesError
from frostline.pipeline.extraction.compute import fill_cache
from frostline.pipeline.extraction.defaults import DEFAULT_BACKBONE, default_cache_path
from frostline.pipeline.extraction.engine_choice import EngineOptions
from frostline.pipeline.inputs.sources import opened_source
from frostline.pipeline.inputs.unreadable import describe_unreadable
from frostline.pipeline.progress import SILENT, Reporter


@dataclass(frozen=True)
class ExtractResult:
    """What one extraction did.

    Attributes:
        cache: The finished file.
        key: Cache key, the digest of the specification.
        rows: Images in the data set.
        computed: Rows that went through the backbone now.
        copied: Rows whose image bytes were known from an earlier cache.
        resumed: Rows that an interrupted run had already committed.
        failed: Images that could not be read.
        errors: Reason for each failed image, by id.
        layers: Names of the stored layers.
        engine: What executed the forward pass.
        precision: Number format of the forward pass.
        check: How far the features are from eager fp32's; None where they are its own.
        seconds: Wall time of the whole stage.
        images_per_second: Rate of the forward stage alone; 0 where nothing was computed.
        part: Which part of the cache `cache` is, e.g. "2/4"; None where it is the whole.
    """

    cache: Path
    key: str
    rows: int
    computed: int
    copied: int
    resumed: int
    failed: int
    errors: dict[str, str]
    layers: tuple[str, ...]
    engine: str
    precision: str
    check: Check | None
    seconds: float
    images_per_second: float
    part: str | None

    @property
    def unchanged(self) -> bool:
        """Whether the cache was already complete: nothing decoded, no forward pass."""
        return self.computed == self.copied == self.resumed == 0

    @property
    def merge_command(self) -> str | None:
        """What joins this part with the others, for a shell; None where `cache` is the whole."""
        if self.part is None:
            return None
        number, count = self.part.split("/")
        whole = str(self.cache).removesuffix(f"{number}-of-{count}")
        return f"frostline cache merge {shlex.quote(whole)}*-of-{count}"


def _keep_larger(path: Path, limit: int) -> None:
    """Refuse to replace a finished cache by a few of its rows."""
    if path.exists() and (rows := FeatureCache.open(path).rows) > limit:
        raise LimitError(
            f"{path} holds {rows} images, and --limit {limit} would replace them with fewer."
            " Choose another file with --cache, drop --limit, or replace the file with --overwrite."
        )


def extract(
    data: str | Path | ImageSource,
    *,
    backbone: str = DEFAULT_BACKBONE,
    weights: str | Path | None = None,
    layers: Sequence[str] = ("embedding",),
    image_size: int | None = None,
    views: int = 1,
    seed: int = 0,
    cache: str | Path | None = None,
    engine: str = "auto",
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    min_cosine: float = MIN_COSINE,
    store: Dtype | None = None,
    device: str = "auto",
    decoder: Decoder = "exact",
    batch_size: int | None = None,
    workers: int | None = None,
    limit: int | None = None,
    max_bad: float = 0.01,
    part: Part | None = None,
    overwrite: bool = False,
    report: Reporter = SILENT,
) -> ExtractResult:
    """Compute the feature vectors of every image of `data` that the cache doesn't hold yet.

    Args:
        data: Image folder or manifest, see `features.sources.open_source`; or any other source of images.
        backbone: Name; see `features.backbones.load_backbone`.
        weights: Local weights instead of the backbone's own.
        layers: ``LAYER`` or ``LAYER:POOL``, all stored in one pass.
        image_size: Side in pixels of the network's square input, instead of the size that its weights were trained with.
        views: Passes over each image: the first sees it as it is, the others random parts of it, half of them mirrored.
        seed: Of the views.
        cache: Where the cache goes; by default `pipeline.extraction.defaults.default_cache_path`.
        engine: What executes the forward pass; ``auto`` takes the one that the cache was made with, else the fastest; see
            `features.engines.plan_engines`.
        precision: Number format of the forward pass; ``auto`` takes the cache's, else the fastest that reaches `min_cosine`.
        min_cosine: Smallest cosine similarity to the features of eager fp32, on some of the images, that ``auto`` accepts.
        store: Number format in the file; by default the one of the cache that is there, else float32.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        decoder: ``exact``, or ``fast`` for pixels that differ by 3 of 255 at most; see `features.images.decoding.decode`.
        batch_size: Images per forward pass; by default chosen for the device.
        workers: Decoding threads; by default one per core.
        limit: Take only this many images, evenly spaced over the data set.
        max_bad: Largest tolerated fraction of unreadable images.
        part: Compute only this part of the rows, into a file of its own beside the cache; see `features.cache.Part.path`.
            `features.cache.merge_parts` joins the parts. Where the whole cache is complete, nothing is done.
        overwrite: Replace a cache of another specification, once the new one is complete.
        report: Where progress goes.

    Returns:
        What was done. Interrupted at any instant, the same call goes on from the last committed block.

    Raises:
        FeaturesError: The data, backbone, weights, layers or cache are not usable; the subclass says which.
        LimitError: `limit` would replace a cache by a smaller one.
        TooManyBadImagesError: More than `max_bad` of the images are unreadable. The cache is complete and kept.
    """
    started = time.perf_counter()
    with opened_source(data, limit) as source:
        net = load_backbone(backbone, weights=weights)
        if image_size is not None:
            net = net.with_transform(net.transform.at_size(image_size))
        chosen = net.resolve_layers(layers)
        path = Path(cache) if cache is not None else default_cache_path(source.root, backbone, limit)
        if limit is not None and not overwrite:
            _keep_larger(path, limit)

        options = EngineOptions(
            engine, precision, device, batch_size, store, min_cosine, decoder, views, seed
        )
        filled = fill_cache(
            source, net, chosen, path, options, part=part, overwrite=overwrite, workers=workers, report=report
        )
    done = filled.cache
    result = ExtractResult(
        cache=done.path,
        key=done.key,
        rows=done.rows,
        computed=filled.computed,
        copied=filled.copied,
        resumed=filled.resumed,
        failed=int((~done.ok).sum()),
        errors={str(done.ids[row]): reason for row, reason in done.errors.items()},
        layers=tuple(layer.key for layer in done.layers),
        engine=done.spec.engine,
        precision=done.spec.precision,
        check=done.check,
        seconds=time.perf_counter() - started,
        images_per_second=filled.images_per_second,
        part=str(done.part) if done.part else None,
    )
    _check_bad(result, max_bad)
    return result


def _check_bad(result: ExtractResult, max_bad: float) -> None:
    if result.failed <= max_bad * result.rows:
        return
    raise TooManyBadImagesError(
        f"{describe_unreadable(result.errors, result.failed, result.rows)}\n"
        f"That is more than the allowed {max_bad:.1%}. The cache is complete and kept at {result.cache}. Mend or remove these"
        " images and run again (only they are read again), or allow more with --max-bad."
    )
