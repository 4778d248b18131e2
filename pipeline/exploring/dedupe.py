"""The dedupe stage: groups of equal and nearly equal images, and which of each to keep."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.inspection.duplicates import split_centre
from frostline.classifiers.inspection.groups import duplicate_groups, similarities
from frostline.features.cache import FeatureCache
from frostline.features.cache.search import stored_rows
from frostline.features.errors import SearchError
from frostline.features.images.thumbnails import Pictures
from frostline.pipeline.drawing.sheets import SHEET_SIDE, Strip, Tile
from frostline.pipeline.drawing.tables import write_table
from frostline.pipeline.drawing.thumbnails import check_source, opened_pictures
from frostline.pipeline.errors import RunError
from frostline.pipeline.exploring.manifests import listed_outputs, write_manifest
from frostline.pipeline.exploring.outputs import label_of
from frostline.pipeline.exploring.qualities import measure
from frostline.pipeline.inputs.labelled_images import choose_layer, divide_rows
from frostline.pipeline.options.stage import stage
from frostline.pipeline.options.vectors.quality import DedupeOptions, Keep
from frostline.splits import SPLITS, Split

COLUMNS = ("group", "image", "kept", "similarity", "label", "split")


@dataclass(frozen=True)
class Duplicate:
    """An image of a group.

    Attributes:
        group: Number of the group, from 1.
        image: Id of the image.
        kept: Whether it is the image of the group to keep.
        similarity: Cosine of its centred features and those of the kept image. It may be below the threshold, because
            groups are connected by chains of similar images.
        equal: Whether its bytes are those of the kept image.
        label: Class, empty if unknown.
        split: Split in which a head would use it, empty for none.
    """

    group: int
    image: str
    kept: bool
    similarity: float
    equal: bool
    label: str
    split: str


@dataclass(frozen=True)
class Duplicates:
    """Groups of equal and nearly equal images of a cache.

    Attributes:
        cache: Path of the cache.
        layer: Layer in which images were compared.
        threshold: Smallest centred cosine that joins two images.
        keep: Rule by which one image of each group is kept.
        compared: Number of readable images.
        groups: Number of groups.
        dropped: Number of images that are not kept.
        images: The images of all groups, by group, the kept one first and then the most similar.
        across_splits: Numbers of the groups with images in more than one split.
        different_labels: Numbers of the groups with images of different classes.
        lost_labels: Numbers of the groups whose kept image has no label, although another one has.
        listing: CSV file of the groups; None if none was written.
        manifest: Manifest without the dropped images; None if none was written.
        picture: Contact sheet; None if none was written.
        page: HTML page; None if none was written.
        seconds: Wall time.
    """

    cache: Path
    layer: str
    threshold: float
    keep: Keep
    compared: int
    groups: int
    dropped: int
    images: tuple[Duplicate, ...]
    across_splits: tuple[int, ...]
    different_labels: tuple[int, ...]
    lost_labels: tuple[int, ...]
    listing: Path | None
    manifest: Path | None
    picture: Path | None
    page: Path | None
    seconds: float


@stage(DedupeOptions)
def dedupe(cache: str | Path | FeatureCache, options: DedupeOptions) -> Duplicates:
    """Find groups of equal and nearly equal images, and say which image of each to keep. No image is deleted.

    Images of equal bytes form a group, and so do images that are connected by pairs with at least the threshold as the
    cosine of their centred features. The features are centred on the mean of the training rows, as by `check_cache`, or
    on that of all rows if no image has a label. The default threshold is above that of `check_cache`, because images are
    dropped here and not only shown; `frostline.classifiers.inspection.near` has the measurements. Look at the groups before
    you drop images.

    Args:
        cache: The cache or its path.
        options: Options of the stage.

    Raises:
        FeaturesError: The cache is not usable, or `source` has none of its images.
        RunError: The layer does not exist, the images can't be opened for `keep`, or they can't be named in a manifest.
        OptionError: An option is out of range.
    """
    started = time.perf_counter()
    if not isinstance(cache, FeatureCache):
        cache = FeatureCache.open(cache)
    outputs, listing, manifest = listed_outputs(
        cache, options.out, options.listing, options.source, "duplicates"
    )
    check_source(cache, options.source)
    layer = choose_layer(cache, options.layer).key
    X, rows = stored_rows(cache, layer), np.flatnonzero(cache.ok)
    if not rows.size:
        raise SearchError(f"{cache.path}: none of its {cache.rows} images has features")
    split = divide_rows(cache, options.fractions)
    centre = split_centre(
        X, split if (split != Split.NONE).any() else np.where(cache.ok, 1, 0).astype(np.uint8)
    )
    with options.report.task("Comparing images", len(rows)) as advance:
        labels = duplicate_groups(
            X,
            rows,
            cache.content,
            threshold=options.threshold,
            centre=centre,
            device=options.device,
            advance=advance,
        )
    groups = _grouped(rows, labels)
    with opened_pictures(cache, options.source) as pictures:
        keep, groups = _choose(groups, pictures, options)
        images = _images(cache, X, centre, groups, split)
        if listing:
            write_table(as_rows(images), listing, COLUMNS)
        written = outputs.write(
            as_rows(images),
            lambda: _strips(groups, images, pictures, outputs.tiles),
            columns=COLUMNS,
            title=f"Duplicates in {cache.path.name}",
            remark=lambda: " ".join(
                filter(
                    None,
                    [f"Centred cosine of {layer} with the kept image, which is marked.", pictures.obstacle],
                )
            ),
            report=options.report,
        )
    if manifest:
        dropped = np.concatenate([np.empty(0, np.int64), *(group[1:] for group in groups)])
        write_manifest(manifest, cache, np.setdiff1d(np.arange(cache.rows), dropped), options.source)
    return Duplicates(
        cache=cache.path,
        layer=layer,
        threshold=options.threshold,
        keep=keep,
        compared=len(rows),
        groups=len(groups),
        dropped=len(images) - len(groups),
        images=tuple(images),
        across_splits=_mixed(images, "split"),
        different_labels=_mixed(images, "label"),
        lost_labels=_lost(images),
        listing=listing,
        manifest=manifest,
        picture=written.picture,
        page=written.page,
        seconds=time.perf_counter() - started,
    )


def _grouped(rows: NDArray[np.int64], labels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the sorted rows of each group of two or more, in the order of their first rows."""
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    return [group for group in np.split(rows[order], starts[1:]) if len(group) > 1]


def _choose(
    groups: Sequence[NDArray[np.int64]], pictures: Pictures, options: DedupeOptions
) -> tuple[Keep, list[NDArray[np.int64]]]:
    """Return the rule of choice that was used, and the groups with the kept row first."""
    keep = options.keep
    if keep == "first" or not groups:
        return keep, list(groups)
    if pictures.obstacle:
        why = pictures.obstacle.removeprefix("Images are not shown, because ").removeprefix(
            "Images are not shown: "
        )
        if keep == "sharpest":
            raise RunError(f"--keep sharpest needs the images: {why} Use --keep first.")
        options.report.warn(f"The first image of each group is kept, because sizes are not known: {why}")
        return "first", list(groups)
    found = measure(pictures, np.concatenate(groups), workers=options.workers, report=options.report)
    values = np.nan_to_num(found.pixels if keep == "largest" else found.sharpness, nan=-1)
    parts = np.split(values, np.cumsum([len(group) for group in groups])[:-1])
    chosen = []
    for group, value in zip(groups, parts, strict=True):
        best = int(np.argmax(value))  # the first of equal ones
        chosen.append(np.concatenate([group[best : best + 1], np.delete(group, best)]))
    return keep, chosen


def _images(
    cache: FeatureCache,
    X: Any,
    centre: NDArray[np.float64],
    groups: list[NDArray[np.int64]],
    split: NDArray[np.uint8],
) -> list[Duplicate]:
    """Return the images of all groups; the rows of `groups` are brought into the same order."""
    images = []
    for number, group in enumerate(groups):
        kept = np.full(len(group), group[0])
        cosine = similarities(X, group, kept, centre)
        equal = (cache.content[group] == cache.content[kept]).all(axis=1) & cache.content[group].any(axis=1)
        cosine[equal] = 1.0
        order = np.concatenate([[0], 1 + np.argsort(-cosine[1:], kind="stable")])
        groups[number] = group[order]
        images += [
            Duplicate(
                number + 1,
                str(cache.ids[group[i]]),
                i == 0,
                float(cosine[i]),
                bool(equal[i]),
                label_of(cache, int(group[i])),
                SPLITS[split[group[i]]],
            )
            for i in order.tolist()
        ]
    return images


def _mixed(images: Sequence[Duplicate], what: str) -> tuple[int, ...]:
    """Return the groups whose images have more than one value, empty ones aside."""
    seen: dict[int, set[str]] = {}
    for each in images:
        seen.setdefault(each.group, set()).update({getattr(each, what)} - {""})
    return tuple(number for number, values in seen.items() if len(values) > 1)


def _lost(images: Sequence[Duplicate]) -> tuple[int, ...]:
    """Return the groups whose kept image has no label, although another one has."""
    unlabelled = {each.group for each in images if each.kept and not each.label}
    return tuple(sorted({each.group for each in images if each.label} & unlabelled))


def as_rows(images: Sequence[Duplicate]) -> list[dict[str, Any]]:
    """Return the rows of the list."""
    return [
        dict(
            zip(
                COLUMNS,
                (each.group, each.image, int(each.kept), f"{each.similarity:.6f}", each.label, each.split),
                strict=True,
            )
        )
        for each in images
    ]


def _strips(
    groups: Sequence[NDArray[np.int64]], images: Sequence[Duplicate], pictures: Pictures, most: int
) -> list[Strip]:
    strips: list[Strip] = []
    shown = 0
    for number, group in enumerate(groups, 1):
        if shown >= most:
            break
        members = images[shown : shown + len(group)]
        tiles = [
            Tile(
                pictures.thumbnail(int(row), SHEET_SIDE),
                (
                    "kept" if each.kept else "equal bytes" if each.equal else f"{each.similarity:.4f}",
                    " ".join(filter(None, (each.label, each.split))),
                ),
                marked=each.kept,
            )
            for row, each in zip(group[:most].tolist(), members, strict=False)
        ]
        strips.append(Strip(f"Group {number}: {len(group)} images", tiles))
        shown += len(group)
    return strips
