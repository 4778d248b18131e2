"""The clusters stage: groups of alike images, and how they agree with the labels."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.fitting.projection import ProjectedRows, ProjectionPlan, fit_projection
from frostline.classifiers.inspection.clusters import (
    NOISE,
    Agreement,
    Clusters,
    Prepared,
    agreement,
    contingency,
    counts_to_try,
    fit_clusters,
)
from frostline.errors import OptionError
from frostline.features.cache import FeatureCache
from frostline.features.cache.search import stored_rows
from frostline.features.errors import SearchError
from frostline.features.images.thumbnails import Pictures
from frostline.pipeline.drawing.sheets import SHEET_SIDE, Strip, Tile
from frostline.pipeline.drawing.thumbnails import check_source, opened_pictures
from frostline.pipeline.exploring.outputs import Outputs, check_apart
from frostline.pipeline.hosts.memory import half_of_memory
from frostline.pipeline.inputs.labelled_images import choose_layer, divide_rows
from frostline.pipeline.options.stage import stage
from frostline.pipeline.options.vectors.clusters import ClusterMethod, ClusterOptions
from frostline.splits import SPLITS, Split

_NEAREST = 5  # images of each cluster that are named
COLUMNS = ("image", "cluster", "distance", "probability", "label", "split")


@dataclass(frozen=True)
class Cluster:
    """A cluster of images.

    Attributes:
        number: Number of the cluster, from 0 for the largest; -1 for the noise of HDBSCAN.
        size: Number of images.
        labelled: Number of these whose label was read.
        label: Most frequent class among them, empty without any; of equally frequent ones the first.
        purity: Share of this class; None without labels.
        spread: Mean distance from the centre, in the space that was clustered; None for noise.
        nearest: Ids of the images nearest the centre, the nearest first; of noise the first images.
    """

    number: int
    size: int
    labelled: int
    label: str
    purity: float | None
    spread: float | None
    nearest: tuple[str, ...]


@dataclass(frozen=True)
class ClusterResult:
    """Clusters of the images of a cache.

    Attributes:
        cache: Path of the cache.
        layer: Layer that was clustered.
        method: Method of clustering.
        count: Number of clusters, without noise.
        images: Number of readable images, all of which were clustered.
        noise: Number of images that are in no cluster.
        agreement: Agreement with the labels of train and val; None without labels. Noise is left out.
        silhouettes: Mean silhouette by number of clusters, if the number was chosen by it.
        clusters: The clusters, the largest first, then noise if there is some.
        table: CSV file with a row per image; None if none was written.
        picture: Contact sheet; None if none was written.
        page: HTML page; None if none was written.
        seconds: Wall time.
    """

    cache: Path
    layer: str
    method: ClusterMethod
    count: int
    images: int
    noise: int
    agreement: Agreement | None
    silhouettes: Mapping[int, float]
    clusters: tuple[Cluster, ...]
    table: Path | None
    picture: Path | None
    page: Path | None
    seconds: float


@stage(ClusterOptions)
def clusters(cache: str | Path | FeatureCache, options: ClusterOptions) -> ClusterResult:
    """Cluster all readable images by their features, and compare the clusters with the labels.

    No label is used to fit: the number of clusters may be that of the classes, and nothing else. The vectors of test rows
    are clustered like all others. Their labels are not read: test rows, by the declared splits or by `fractions`, take no
    part in any score, and the table leaves their labels empty.

    With the metric ``cosine``, features are centred on their mean and divided by their lengths. With `project`, they are
    projected first. `frostline.classifiers.inspection.clusters` names the estimators and the definitions of the scores.

    Args:
        cache: The cache or its path.
        options: Options of the stage.

    Raises:
        FeaturesError: The cache is not usable, `source` has none of its images, or none has features.
        ClassifiersError: The method needs more than half of the machine's memory, there are fewer images than clusters,
            or the projection is not possible.
        RunError: The layer does not exist.
        OptionError: An option is out of range, or the number of clusters is not known.
    """
    started = time.perf_counter()
    outputs = Outputs.at(options.out, "clusters")
    if not isinstance(cache, FeatureCache):
        cache = FeatureCache.open(cache)
    check_apart(cache, outputs)
    check_source(cache, options.source)
    layer = choose_layer(cache, options.layer).key
    rows = np.flatnonzero(cache.ok)
    if not rows.size:
        raise SearchError(f"{cache.path}: none of its {cache.rows} images has features")
    labels = _labels(cache, rows, options)
    count = _count(cache, labels, options)
    X: Any = stored_rows(cache, layer)
    if options.project:
        with options.report.task("Projecting", None):
            plan = ProjectionPlan.parse(options.project)
            X = ProjectedRows(X, fit_projection(X, rows, plan, seed=options.seed))
    data = Prepared.of(X, rows, options.metric)
    with options.report.task(
        "Clustering", len(counts_to_try(len(rows))) if count == "auto" else 1
    ) as advance:
        found = fit_clusters(
            data,
            options.method,
            count,
            smallest=options.smallest,
            seed=options.seed,
            memory=half_of_memory(),
            advance=advance,
        )
    if isinstance(count, int) and len(found.centres) < count:
        options.report.warn(
            f"Only {len(found.centres)} of the {count} clusters have images, because images have equal vectors or no other"
            " cluster is nearest to any."
        )
    members = _members(found)
    table = contingency(found.cluster, labels, (len(found.centres), len(cache.classes)))
    described = [
        _describe(cache, number, rows[part], labels[part], found.distance[part])
        for number, part in members.items()
    ]
    with opened_pictures(cache, options.source) as pictures:
        written = outputs.write(
            as_rows(cache, rows, labels, found) if outputs.table or outputs.tiles else (),
            lambda: _strips(
                described, [rows[part][: options.top] for part in members.values()], pictures, outputs.tiles
            ),
            columns=COLUMNS,
            title=f"Clusters of {cache.path.name}",
            remark=lambda: " ".join(filter(None, [_remark(options, layer), pictures.obstacle])),
            report=options.report,
        )
    return ClusterResult(
        cache=cache.path,
        layer=layer,
        method=options.method,
        count=len(found.centres),
        images=len(rows),
        noise=int((found.cluster == NOISE).sum()),
        agreement=agreement(table),
        silhouettes=found.silhouettes,
        clusters=tuple(described),
        table=written.table,
        picture=written.picture,
        page=written.page,
        seconds=time.perf_counter() - started,
    )


def _labels(cache: FeatureCache, rows: NDArray[np.int64], options: ClusterOptions) -> NDArray[np.int64]:
    """Return the class of each row, -1 for unlabelled rows and for test rows, whose labels are not read."""
    split = divide_rows(cache, options.fractions)
    known = (split == Split.TRAIN) | (split == Split.VAL)
    return np.where(known[rows], cache.labels[rows], -1)


def _count(
    cache: FeatureCache, labels: NDArray[np.int64], options: ClusterOptions
) -> int | Literal["auto"] | None:
    """Return the number of clusters; None if the method finds it."""
    if options.method == "hdbscan":
        return None
    if options.count is not None:
        return cast("int | Literal['auto']", options.count)
    classes = len(np.unique(labels[labels >= 0]))
    if not classes:
        raise OptionError(
            f"count: {cache.path} has no labelled images whose classes could be counted; name the number of clusters with"
            " --count K, or try several with --count auto"
        )
    return classes


def _members(found: Clusters) -> dict[int, NDArray[np.int64]]:
    """Return the positions of the images of each cluster by distance from its centre, and of noise in their order."""
    order = np.lexsort((found.distance, found.cluster))
    ends = np.searchsorted(found.cluster[order], np.arange(len(found.centres) + 1))
    members = {number: order[ends[number] : ends[number + 1]] for number in range(len(found.centres))}
    noise = np.flatnonzero(found.cluster == NOISE)
    return members | ({NOISE: noise} if noise.size else {})


def _describe(
    cache: FeatureCache,
    number: int,
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    distance: NDArray[np.float64],
) -> Cluster:
    """Describe a cluster, given its rows by distance from the centre."""
    counts = np.bincount(labels[labels >= 0], minlength=1)
    total = int(counts.sum())
    return Cluster(
        number=number,
        size=len(rows),
        labelled=total,
        label=cache.classes[int(counts.argmax())] if total else "",
        purity=float(counts.max()) / total if total else None,
        spread=float(distance.mean()) if number != NOISE else None,
        nearest=tuple(cache.ids[rows[:_NEAREST]].tolist()),
    )


def as_rows(
    cache: FeatureCache, rows: NDArray[np.int64], labels: NDArray[np.int64], found: Clusters
) -> list[dict[str, Any]]:
    """Return one row per image, for a table; what is not known is empty."""
    strength = found.probability
    values = zip(rows.tolist(), found.cluster.tolist(), found.distance.tolist(), labels.tolist(), strict=True)
    return [
        dict(
            zip(
                COLUMNS,
                (
                    str(cache.ids[row]),
                    cluster,
                    "" if cluster == NOISE else f"{distance:.6f}",
                    "" if strength is None else f"{strength[place]:.6f}",
                    cache.classes[label] if label >= 0 else "",
                    SPLITS[cache.split[row]],
                ),
                strict=True,
            )
        )
        for place, (row, cluster, distance, label) in enumerate(values)
    ]


def _remark(options: ClusterOptions, layer: str) -> str:
    space = "Centred cosine" if options.metric == "cosine" else "Euclidean distance"
    projected = f", projected by {options.project}" if options.project else ""
    return f"{space} of {layer}{projected}, {options.method}. The images nearest the centre of each cluster come first."


def heading(cluster: Cluster) -> str:
    """Describe a cluster in one line."""
    name = "Noise" if cluster.number == NOISE else f"Cluster {cluster.number}"
    purity = (
        ""
        if cluster.purity is None
        else f", {cluster.purity:.0%} of the {cluster.labelled} labelled ones are {cluster.label}"
    )
    return f"{name}: {cluster.size} images{purity}"


def _strips(
    described: Sequence[Cluster], rows: Sequence[NDArray[np.int64]], pictures: Pictures, most: int
) -> list[Strip]:
    """Return a strip per cluster; each cluster gets an equal share of the tiles."""
    share = max(1, most // len(described))
    return [
        Strip(heading(cluster), [Tile(pictures.thumbnail(row, SHEET_SIDE)) for row in shown[:share].tolist()])
        for cluster, shown in zip(described, rows, strict=True)
    ]
