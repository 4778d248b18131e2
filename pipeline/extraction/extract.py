"""The extract stage: compute the features of a data set once with a frozen backbone and store them in a cache."""

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from frostline.features.backbones import load_backbone
from frostline.features.cache import FeatureCache, Part
from frostline.features.fidelity import MIN_COSINE, Check
from frostline.features.images.decoders import Decoder
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
    """Result of an extraction.

    Attributes:
        cache: Path of the cache.
        key: Cache key, the digest of the specification.
        rows: Number of images in the data set.
        computed: Number of rows computed by this call.
        copied: Number of rows copied from an earlier cache because the image bytes are equal.
        resumed: Number of rows that an interrupted run had already committed.
        failed: Number of unreadable images.
        errors: Reason for each unreadable image, by id.
        layers: Keys of the stored layers.
        engine: Engine that executed the forward pass.
        precision: Number format of the forward pass.
        check: Deviation from eager fp32; None if the features were computed by eager fp32.
        seconds: Wall time of the whole stage.
        images_per_second: Rate of the forward stage; 0 if nothing was computed.
        part: Part of the cache that `cache` holds, e.g. "2/4"; None for the whole.
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
        """Whether the cache was already complete, so that no image was decoded."""
        return self.computed == self.copied == self.resumed == 0

    @property
    def merge_command(self) -> str | None:
        """Shell command that merges this part with the others; None if `cache` is the whole."""
        if self.part is None:
            return None
        number, count = self.part.split("/")
        whole = str(self.cache).removesuffix(f"{number}-of-{count}")
        return f"frostline cache merge {shlex.quote(whole)}*-of-{count}"


def _check_limit(path: Path, limit: int) -> None:
    """Raise `LimitError` if the cache at `path` holds more than `limit` rows."""
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
    """Compute the features of every image of `data` that the cache does not hold yet.

    Args:
        data: Image folder or manifest, see `features.sources.open_source`; or any other image source.
        backbone: Name of the backbone; see `features.backbones.load_backbone`.
        weights: Local weights to load instead of the pretrained ones.
        layers: Layers to store in one pass, as ``LAYER`` or ``LAYER:POOL``.
        image_size: Side in pixels of the network's square input; by default the size of its pretrained weights.
        views: Number of versions of each image. The first is the image itself; the others are random crops, half
            of them mirrored.
        seed: Random seed of the views.
        cache: Path of the cache; by default `pipeline.extraction.defaults.default_cache_path`.
        engine: Engine that executes the forward pass; ``auto`` is that of an existing cache, else the fastest; see
            `features.engines.plan_engines`.
        precision: Number format of the forward pass; ``auto`` is that of an existing cache, else the fastest that
            reaches `min_cosine`.
        min_cosine: Smallest cosine similarity to eager fp32 that ``auto`` accepts, checked on a sample of the
            images.
        store: Number format in the file; by default that of an existing cache, else float32.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        decoder: ``exact``, or ``fast`` for pixels that differ by 3 of 255 at most; see
            `features.images.decoders.decode`.
        batch_size: Images per forward pass; by default chosen for the device.
        workers: Decoding threads; by default one per core.
        limit: Use only this many images, evenly spaced over the data set.
        max_bad: Largest tolerated fraction of unreadable images.
        part: Compute only this part of the rows, into a separate file next to the cache; see
            `features.cache.Part.path`. `features.cache.merge_parts` merges the parts. If the whole cache is
            complete, nothing is computed.
        overwrite: Replace a cache with another specification once the new one is complete.
        report: Receiver of progress.

    Returns:
        Result of the extraction. If the call is interrupted, repeating it resumes from the last committed block.

    Raises:
        FeaturesError: The data, backbone, weights, layers or cache are not usable; the subclass identifies the
            cause.
        LimitError: `limit` would replace a cache with a smaller one.
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
            _check_limit(path, limit)

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
        f"That is more than the allowed {max_bad:.1%}. The cache is complete and kept at {result.cache}. Repair or remove these"
        " images and run again (only they are read again), or raise --max-bad."
    )
