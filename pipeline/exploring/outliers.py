"""The outliers stage: images far from all others or from their class, and pictures that are odd by themselves."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.inspection.outliers import NeighbourScores, modified_z, neighbour_scores
from frostline.features.cache import FeatureCache
from frostline.features.cache.search import stored_rows
from frostline.features.errors import SearchError
from frostline.features.images.thumbnails import Pictures
from frostline.pipeline.drawing.sheets import SHEET_SIDE, Strip, Tile
from frostline.pipeline.drawing.thumbnails import check_source, opened_pictures
from frostline.pipeline.exploring.outputs import Outputs, check_apart, label_of
from frostline.pipeline.exploring.qualities import Qualities, measure
from frostline.pipeline.inputs.labelled_images import choose_layer
from frostline.pipeline.options.stage import stage
from frostline.pipeline.options.vectors.quality import OutlierOptions
from frostline.splits import SPLITS

COLUMNS = ("kind", "rank", "image", "label", "split", "value", "z", "remark")

KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "far": "far from all other images",
        "class": "nearer to another class than to their own",
        "dark": "dark",
        "blurred": "blurred",
        "size": "of unusual size",
        "shape": "of unusual shape",
    }
)
"""Description of each kind of outlier."""


@dataclass(frozen=True)
class Outlier:
    """An image that is unlike the others in one respect; it may be listed once per kind.

    Attributes:
        kind: Key of `KINDS`.
        image: Id of the image.
        label: Class, empty if unknown.
        split: Declared split, empty without one.
        value: Value of the kind: ``far``: distance of the k-th neighbour; ``class``: foreignness (see
            `frostline.classifiers.inspection.outliers.NeighbourScores`); ``dark``: brightness, 0 to 1; ``blurred``:
            sharpness; ``size``: number of pixels; ``shape``: longer side divided by the shorter one.
        z: Modified z-score of the value, positive towards the unusual side; of its logarithm for ``blurred``, ``size``
            and ``shape``.
        remark: The nearest other class, or the size in pixels; empty for none.
    """

    kind: str
    image: str
    label: str
    split: str
    value: float
    z: float
    remark: str


@dataclass(frozen=True)
class Outliers:
    """Outliers among the images of a cache.

    Attributes:
        cache: Path of the cache.
        layer: Layer in which images were compared.
        k: Neighbour whose distance counts.
        threshold: Smallest modified z-score of an outlier; None if the most extreme images of each kind are listed.
        images: Number of readable images.
        measured: Number of images whose pixels were measured.
        found: The outliers, by kind in the order of `KINDS`, the most extreme first.
        counts: Number of outliers of each kind that was looked for.
        table: CSV file; None if none was written.
        picture: Contact sheet; None if none was written.
        page: HTML page; None if none was written.
        seconds: Wall time.
    """

    cache: Path
    layer: str
    k: int
    threshold: float | None
    images: int
    measured: int
    found: tuple[Outlier, ...]
    counts: Mapping[str, int]
    table: Path | None
    picture: Path | None
    page: Path | None
    seconds: float


@dataclass(frozen=True, eq=False)
class _Kind:
    """Values and scores of one kind, and the images beyond its threshold."""

    value: NDArray[np.float64]
    z: NDArray[np.float64]
    beyond: NDArray[np.bool_]
    remarks: Sequence[str] | None = None


@stage(OutlierOptions)
def outliers(cache: str | Path | FeatureCache, options: OutlierOptions) -> Outliers:
    """Find images that are unlike the others.

    ``far``: the distance of the k-th nearest image has a modified z-score of at least the threshold. ``class``: the
    foreignness has one, and is above 0.5, so that the images of other classes are nearer. ``dark``: 99 % of the pixels
    are at most as bright as `dark`. ``blurred``, ``size`` and ``shape``: the logarithm of the sharpness, of the number
    of pixels and of the ratio of the sides has a modified z-score of at least the threshold, towards low sharpness,
    either size, and elongated shapes. With `top`, the most extreme images of each kind are listed instead.

    Args:
        cache: The cache or its path.
        options: Options of the stage.

    Raises:
        FeaturesError: The cache is not usable, or `source` has none of its images.
        ClassifiersError: The device is not available.
        RunError: The layer does not exist.
        OptionError: An option is out of range.
    """
    started = time.perf_counter()
    outputs = Outputs.at(options.out, "outliers")
    if not isinstance(cache, FeatureCache):
        cache = FeatureCache.open(cache)
    check_apart(cache, outputs)
    check_source(cache, options.source)
    layer = choose_layer(cache, options.layer).key
    rows = np.flatnonzero(cache.ok)
    if len(rows) < 3:
        raise SearchError(f"{cache.path}: got {len(rows)} readable images, expected at least 3 to compare")
    k = min(options.k, len(rows) - 1)
    if k < options.k:
        options.report.note(f"k is {k}, because there are only {len(rows)} readable images.")
    labels = cache.labels[rows]
    with options.report.task("Comparing images", len(rows)) as advance:
        scores = neighbour_scores(
            stored_rows(cache, layer),
            rows,
            labels,
            k,
            metric=options.metric,
            device=options.device,
            advance=advance,
        )
    kinds = _of_neighbours(cache, scores, options.threshold)
    measured = 0
    with opened_pictures(cache, options.source) as pictures:
        if options.images and pictures.obstacle:
            options.report.warn(f"Pixels are not measured. {pictures.obstacle}")
        elif options.images:
            found = measure(pictures, rows, workers=options.workers, report=options.report)
            measured = int(np.isfinite(found.width).sum())
            kinds |= _of_pixels(found, options)
        chosen = {name: _chosen(kind, options.top) for name, kind in kinds.items()}
        listed = [
            _outlier(cache, int(rows[i]), name, kinds[name], i)
            for name in kinds
            for i in chosen[name].tolist()
        ]
        written = outputs.write(
            as_rows(listed),
            lambda: _strips(rows, chosen, listed, pictures, outputs.tiles),
            columns=COLUMNS,
            title=f"Outliers in {cache.path.name}",
            remark=lambda: pictures.obstacle,
            report=options.report,
        )
    return Outliers(
        cache=cache.path,
        layer=layer,
        k=k,
        threshold=None if options.top else options.threshold,
        images=len(rows),
        measured=measured,
        found=tuple(listed),
        counts={name: len(part) for name, part in chosen.items()},
        table=written.table,
        picture=written.picture,
        page=written.page,
        seconds=time.perf_counter() - started,
    )


def _of_neighbours(cache: FeatureCache, scores: NeighbourScores, threshold: float) -> dict[str, _Kind]:
    z = modified_z(scores.distance)
    kinds = {"far": _Kind(scores.distance, z, z >= threshold)}
    if np.isfinite(scores.foreignness).any():
        z = modified_z(scores.foreignness)
        beyond = (z >= threshold) & (scores.foreignness > 0.5)
        near = [
            f"near {cache.classes[label]}" if label >= 0 else "" for label in scores.nearest_class.tolist()
        ]
        kinds["class"] = _Kind(scores.foreignness, z, beyond, near)
    return kinds


def _of_pixels(found: Qualities, options: OutlierOptions) -> dict[str, _Kind]:
    sizes = [
        f"{w:.0f} x {h:.0f}" if np.isfinite(w) else "" for w, h in zip(found.width, found.height, strict=True)
    ]
    darkness, blur = -modified_z(found.brightness), -modified_z(np.log1p(found.sharpness))
    size, shape = np.abs(modified_z(np.log(found.pixels))), modified_z(np.log(found.elongation))
    return {
        "dark": _Kind(found.brightness, darkness, found.brightness <= options.dark),
        "blurred": _Kind(found.sharpness, blur, blur >= options.threshold),
        "size": _Kind(found.pixels, size, size >= options.threshold, sizes),
        "shape": _Kind(found.elongation, shape, shape >= options.threshold, sizes),
    }


def _chosen(kind: _Kind, top: int | None) -> NDArray[np.int64]:
    """Return the positions of the outliers, or of the most extreme images, the most extreme first."""
    order = np.argsort(-np.nan_to_num(kind.z, nan=-np.inf), kind="stable")
    order = order[np.isfinite(kind.z[order])]
    return order[:top] if top else order[kind.beyond[order]]


def _outlier(cache: FeatureCache, row: int, name: str, kind: _Kind, i: int) -> Outlier:
    return Outlier(
        kind=name,
        image=str(cache.ids[row]),
        label=label_of(cache, row),
        split=SPLITS[cache.split[row]],
        value=float(kind.value[i]),
        z=float(kind.z[i]),
        remark=kind.remarks[i] if kind.remarks else "",
    )


def as_rows(found: Sequence[Outlier]) -> list[dict[str, Any]]:
    """Return one row per outlier, for a table."""
    rows: list[dict[str, Any]] = []
    rank = 0
    for number, each in enumerate(found):
        rank = rank + 1 if number and found[number - 1].kind == each.kind else 1
        values = (f"{each.value:.6g}", f"{each.z:.3f}", each.remark)
        rows.append(
            dict(zip(COLUMNS, (each.kind, rank, each.image, each.label, each.split, *values), strict=True))
        )
    return rows


def _strips(
    rows: NDArray[np.int64],
    chosen: Mapping[str, NDArray[np.int64]],
    listed: Sequence[Outlier],
    pictures: Pictures,
    most: int,
) -> list[Strip]:
    """Return a strip per kind; each kind gets an equal share of the tiles."""
    share = max(1, most // max(1, len(chosen)))
    strips, start = [], 0
    for name, positions in chosen.items():
        members = listed[start : start + len(positions)]
        start += len(positions)
        tiles = [
            Tile(
                pictures.thumbnail(int(rows[i]), SHEET_SIDE),
                (f"{each.value:.4g}, z {each.z:.1f}", " ".join(filter(None, (each.label, each.remark)))),
            )
            for i, each in zip(positions[:share].tolist(), members, strict=False)
        ]
        more = f", of which the first {len(tiles)} are shown" if len(tiles) < len(positions) else ""
        if tiles:
            strips.append(Strip(f"{KINDS[name].capitalize()}: {len(positions)}{more}", tiles))
    return strips
