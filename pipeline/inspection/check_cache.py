"""The check stage: find leaks, near-duplicates and contradictory labels in a cache."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.inspection.duplicates import LeakReport, check_leaks
from frostline.classifiers.protocol.splits import class_problems, missing_classes
from frostline.errors import OptionError
from frostline.features.cache import FeatureCache
from frostline.pipeline.drawing.attempts import drawn
from frostline.pipeline.drawing.lettering import legible
from frostline.pipeline.drawing.plots import PicturePair, plot_pairs
from frostline.pipeline.drawing.thumbnails import (
    THUMBNAIL_SIDE,
    check_source,
    opened_pictures,
    warn_of_obstacle,
)
from frostline.pipeline.inputs.labelled_images import choose_layer, divide_rows
from frostline.pipeline.inputs.leaks import content_remark
from frostline.pipeline.options.inspection import CheckOptions
from frostline.pipeline.options.stage import stage
from frostline.splits import SPLIT_NAMES, Split

_SHOWN_PAIRS = 24
PICTURE = "near-duplicates.png"


@dataclass(frozen=True)
class NearPair:
    """Two near-duplicates in different splits.

    Attributes:
        image_a: Name of the image in the earlier split.
        image_b: Name of the image in the later split.
        split_a: Split of `image_a`, train or val.
        split_b: Split of `image_b`, val or test.
        label_a: Class of `image_a`, empty without one.
        label_b: Class of `image_b`, empty without one.
        cosine: Cosine similarity of their centred features.
    """

    image_a: str
    image_b: str
    split_a: str
    split_b: str
    label_a: str
    label_b: str
    cosine: float


@dataclass(frozen=True)
class CacheCheck:
    """Result of checking the splits and labels of a cache.

    Attributes:
        cache: Path of the cache.
        layer: Layer whose features were compared.
        counts: Number of labelled, readable rows in each split.
        threshold: Smallest centred cosine similarity of a near-duplicate.
        exact: Image names of each set of equal bytes in more than one split.
        groups: Image names of each group in more than one split.
        conflicts: Image names of each set of equal bytes with different labels.
        near: Near-duplicates in different splits, the most similar first.
        near_complete: Whether `near` holds all near-duplicates rather than only the most similar ones.
        missing: Classes that a split lacks, by split.
        refusals: Reasons why train-head would refuse these splits; empty if it accepts them.
        warnings: Problems that should be checked by hand.
        picture: Thumbnails of the most similar pairs; None without pairs or without an output folder, or if they could
            not be drawn.
        seconds: Wall time.
    """

    cache: Path
    layer: str
    counts: Mapping[str, int]
    threshold: float
    exact: tuple[tuple[str, ...], ...]
    groups: tuple[tuple[str, ...], ...]
    conflicts: tuple[tuple[str, ...], ...]
    near: tuple[NearPair, ...]
    near_complete: bool
    missing: Mapping[str, tuple[str, ...]]
    refusals: tuple[str, ...]
    warnings: tuple[str, ...]
    picture: Path | None
    seconds: float


@stage(CheckOptions)
def check_cache(cache: str | Path | FeatureCache, options: CheckOptions) -> CacheCheck:
    """Check the splits and labels of a cache.

    Find equal images, near-duplicates and groups in more than one split, and equal images with different labels.
    The features of test rows are compared with those of the other rows, and no prediction is made.

    Args:
        cache: The cache or its path.
        options: Options of the stage.

    Raises:
        FeaturesError: The cache is not usable, or `source` has none of its images.
        RunError: The layer does not exist.
        OptionError: An option is out of range, or `source` is no image source.
    """
    started = time.perf_counter()
    if options.source is not None and not hasattr(options.source, "table"):
        raise OptionError(
            f"source: got {repr(options.source)[:80]}, expected an image source, as open_source returns it"
        )
    if not isinstance(cache, FeatureCache):
        cache = FeatureCache.open(cache)
    check_source(cache, options.source)
    chosen = choose_layer(cache, options.layer)
    split = divide_rows(cache, options.fractions)
    with options.report.task("Comparing images", None):
        found = check_leaks(
            split,
            cache.content,
            cache.groups,
            np.where(cache.ok, cache.labels, -1),
            cache.classes,
            X=cache.features(chosen.key),
            threshold=options.threshold,
            max_pairs=options.max_pairs,
        )
    near, complete = _pairs(cache, split, found)
    picture = None
    if options.out is not None and near:
        picture = drawn(
            Path(options.out) / PICTURE, lambda path: _draw(cache, found, near, path, options), options.report
        )
    missing = missing_classes(split, cache.labels, cache.classes)
    refusals, warnings = class_problems(missing)
    return CacheCheck(
        cache=cache.path,
        layer=chosen.key,
        counts={SPLIT_NAMES[code]: int((split == code).sum()) for code in Split if code != Split.NONE},
        threshold=options.threshold,
        exact=_names(cache, found.exact),
        groups=_names(cache, found.groups),
        conflicts=_names(cache, found.conflicts),
        near=near,
        near_complete=complete,
        missing=missing,
        refusals=(*found.refusals, *refusals),
        warnings=(*found.warnings, *warnings, *([told] if (told := content_remark(cache)) else [])),
        picture=picture,
        seconds=time.perf_counter() - started,
    )


def _names(cache: FeatureCache, runs: Sequence[NDArray[np.int64]]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(str(cache.ids[row]) for row in rows) for rows in runs)


def _pairs(
    cache: FeatureCache, split: NDArray[np.uint8], found: LeakReport
) -> tuple[tuple[NearPair, ...], bool]:
    if found.near is None:
        return (), True

    def side(row: int) -> tuple[str, str, str]:
        label = int(cache.labels[row])
        return str(cache.ids[row]), SPLIT_NAMES[int(split[row])], cache.classes[label] if label >= 0 else ""

    pairs = []
    for row_a, row_b, cosine in zip(*found.near[:3], strict=True):
        (image_a, split_a, label_a), (image_b, split_b, label_b) = side(int(row_a)), side(int(row_b))
        pairs.append(NearPair(image_a, image_b, split_a, split_b, label_a, label_b, float(cosine)))
    return tuple(pairs), found.near.complete


def _draw(
    cache: FeatureCache, found: LeakReport, near: Sequence[NearPair], path: Path, options: CheckOptions
) -> None:
    rows: Any = zip(*found.near[:2], strict=True) if found.near else ()
    with opened_pictures(cache, options.source) as pictures:
        warn_of_obstacle(pictures, options.report)
        pairs = [
            PicturePair(
                pictures.thumbnail(int(row_a), THUMBNAIL_SIDE),
                pictures.thumbnail(int(row_b), THUMBNAIL_SIDE),
                f"{pair.split_a}: {legible(pair.label_a)}",
                f"{pair.split_b}: {legible(pair.label_b)}\n{pair.cosine:.3f}",
            )
            for (row_a, row_b), pair in zip(rows, near[:_SHOWN_PAIRS], strict=False)
        ]
    plot_pairs(
        pairs,
        path,
        remark=pictures.obstacle,
        title=f"The {len(pairs)} most similar of {len(near)} pairs, with the centred cosine of their features",
    )
