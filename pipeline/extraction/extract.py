"""The extract stage: compute the features of a data set once with a frozen backbone and store them in a cache."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from frostline.features.cache import FeatureCache
from frostline.features.fidelity import Check
from frostline.features.sources import Images, SourceSummary
from frostline.features.table import ImageSource
from frostline.pipeline.errors import LimitError, TooManyBadImagesError
from frostline.pipeline.extraction.compute import fill_cache
from frostline.pipeline.extraction.defaults import cache_path
from frostline.pipeline.inputs.networks import load_network
from frostline.pipeline.inputs.sources import opened_source, summary_of
from frostline.pipeline.inputs.unreadable import describe_unreadable
from frostline.pipeline.options.extraction import ExtractOptions
from frostline.pipeline.options.stage import stage
from frostline.shell import shell_command


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
        remarks: Remark on each image computed by this call whose pixels may not mean what its file says, by id.
        layers: Keys of the stored layers.
        engine: Engine that executed the forward pass.
        precision: Number format of the forward pass.
        check: Deviation from eager fp32; None if the features were computed by eager fp32.
        seconds: Wall time of the whole stage.
        images_per_second: Rate of the forward stage; 0 if nothing was computed.
        part: Part of the cache that `cache` holds, e.g. "2/4"; None for the whole.
        found: Summary of the data: the images found and the entries skipped.
        weights_note: How the weights were read and what was assumed; None for nothing to say.
    """

    cache: Path
    key: str
    rows: int
    computed: int
    copied: int
    resumed: int
    failed: int
    errors: dict[str, str]
    remarks: Mapping[str, str]
    layers: tuple[str, ...]
    engine: str
    precision: str
    check: Check | None
    seconds: float
    images_per_second: float
    part: str | None
    found: SourceSummary
    weights_note: str | None

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
        whole = Path(str(self.cache).removesuffix(f"{number}-of-{count}"))
        return shell_command("frostline", "cache", "merge", whole) + f"*-of-{count}"


def _check_limit(path: Path, limit: int) -> None:
    """Raise `LimitError` if the cache at `path` holds more than `limit` rows."""
    if path.exists() and (rows := FeatureCache.open(path).rows) > limit:
        raise LimitError(
            f"{path} holds {rows} images, and --limit {limit} would replace them with fewer."
            " Choose another file with --cache, drop --limit, or replace the file with --overwrite."
        )


@stage(ExtractOptions)
def extract(data: str | Path | ImageSource | Images, options: ExtractOptions) -> ExtractResult:
    """Compute the features of every image of `data` that the cache does not hold yet.

    Args:
        data: Path of the images, see `frostline.features.sources.open_source`; any other image source; or the images
            themselves, see `frostline.features.sources.images_source`.
        options: Options of the extraction.

    Returns:
        Result of the extraction. If the call is interrupted, repeating it resumes from the last committed block.

    Raises:
        OptionError: An option is not valid.
        FeaturesError: The data, backbone, weights, layers or cache are not usable; the subclass identifies the
            cause.
        LimitError: `limit` would replace a cache with a smaller one.
        TooManyBadImagesError: More than `max_bad` of the images are unreadable. The cache is complete and kept.
    """
    started = time.perf_counter()
    limit = options.limit
    with opened_source(data, options) as source:
        found = summary_of(source, options.report)
        net = load_network(options)
        layers = net.resolve_layers(options.layers)
        path = cache_path(source.root, options)
        if limit is not None and not options.overwrite:
            _check_limit(path, limit)
        filled = fill_cache(source, net, layers, path, options)
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
        remarks=filled.remarks,
        layers=tuple(layer.key for layer in done.layers),
        engine=done.spec.engine,
        precision=done.spec.precision,
        check=done.check,
        seconds=time.perf_counter() - started,
        images_per_second=filled.images_per_second,
        part=str(done.part) if done.part else None,
        found=found,
        weights_note=net.note or None,
    )
    _check_bad(result, options.max_bad)
    return result


def _check_bad(result: ExtractResult, max_bad: float) -> None:
    if result.failed <= max_bad * result.rows:
        return
    raise TooManyBadImagesError(
        f"{describe_unreadable(result.errors, result.failed, result.rows)}\n"
        f"That is more than the allowed {max_bad:.1%}. The cache is complete and kept at {result.cache}. Repair or remove these"
        " images and run again (only they are read again), or raise --max-bad."
    )
