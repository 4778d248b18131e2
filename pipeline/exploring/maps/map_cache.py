"""The map stage: coordinates of the images of a cache in two dimensions, and a page to explore them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.protocol.samples import stratified
from frostline.errors import OptionError
from frostline.features.errors import SearchError
from frostline.pipeline.drawing.embedding import Map, check_map, draw_map
from frostline.pipeline.drawing.tables import write_table
from frostline.pipeline.drawing.thumbnails import check_source, opened_pictures, warn_of_obstacle
from frostline.pipeline.errors import RunError
from frostline.pipeline.exploring.maps.page import Colouring, Contents, write_map_page
from frostline.pipeline.exploring.maps.tiles import tile_side, tiles
from frostline.pipeline.exploring.outputs import Outputs, check_apart
from frostline.pipeline.inputs.joined_caches import AnyCache, open_caches
from frostline.pipeline.inputs.labelled_images import divide_rows
from frostline.pipeline.inputs.layers import layer_choices, layer_features
from frostline.pipeline.options.stage import stage
from frostline.pipeline.options.vectors.map import MOST_POINTS, MOST_THUMBNAILS, MapOptions
from frostline.pipeline.runs.data_changes import compare_data
from frostline.pipeline.runs.evaluation import find_test_predictions
from frostline.pipeline.runs.predictions import VALIDATION_FILE, Predictions
from frostline.pipeline.runs.run import Run, load_run
from frostline.splits import SPLITS


@dataclass(frozen=True)
class MapPoint:
    """An image on a map.

    Attributes:
        image: Id of the image.
        x: Horizontal coordinate.
        y: Vertical coordinate.
        label: Class, empty if unknown.
        split: Split in which a head uses it, empty for none.
        predicted: Class that the run recorded for it; empty without a prediction.
        probability: Probability of `predicted`; None without a prediction.
    """

    image: str
    x: float
    y: float
    label: str
    split: str
    predicted: str = ""
    probability: float | None = None


@dataclass(frozen=True)
class CacheMap:
    """Map of the images of a cache.

    Attributes:
        cache: Path of the cache.
        layer: Layer whose features are drawn.
        method: ``pca``, ``tsne`` or ``umap``.
        axes: Titles of the two axes.
        images: Number of readable images.
        points: The images that are drawn, in the order of the cache.
        sampled: Sentence that says which images are drawn; empty if all are.
        predicted: Number of drawn images with a prediction of the run.
        mistakes: Number of drawn images whose prediction is wrong.
        thumbnails: Number of thumbnails in the page.
        thumbnail_side: Longest side of a thumbnail in pixels; 0 without thumbnails.
        table: CSV file; None if none was written.
        page: HTML page; None if none was written.
        bytes: Size of the page in bytes; 0 without one.
        seconds: Wall time.
    """

    cache: Path
    layer: str
    method: str
    axes: tuple[str, str]
    images: int
    points: tuple[MapPoint, ...]
    sampled: str
    predicted: int
    mistakes: int
    thumbnails: int
    thumbnail_side: int
    table: Path | None
    page: Path | None
    bytes: int
    seconds: float


@stage(MapOptions)
def map_cache(cache: str | Path | AnyCache, options: MapOptions) -> CacheMap:
    """Draw the images of a cache as points in two dimensions, on a page that can be explored without a network.

    The splits are those of the run if one is named, else those in which `train_head` would use the images. Predictions are
    those that the run recorded: nothing is predicted or evaluated. Unreadable images are not drawn.

    Args:
        cache: The cache or its path; ``a.h5+b.h5`` joins several.
        options: Options of the stage.

    Raises:
        FeaturesError: The cache is not usable, has fewer than three readable images, or `source` has none of its images.
        RunError: The layer does not exist, UMAP is not installed, or the run was trained on other images.
        OptionError: An option is out of range.
    """
    started = time.perf_counter()
    outputs = _outputs(options.out)
    check_map(options.method, "--method")
    cache = open_caches(cache)
    check_apart(cache, outputs)
    check_source(cache, options.source)
    run = None if options.run is None else _matching_run(options.run, cache, options)
    layer = _layer(cache, options.layer, run)
    readable = np.flatnonzero(cache.ok)
    if len(readable) < 3:
        raise SearchError(f"{cache.path}: got {len(readable)} readable images, expected at least 3 to draw")
    limit = options.limit or MOST_POINTS[options.method]
    rows = stratified(readable, cache.labels[readable], limit, options.seed)
    with options.report.task(f"Projecting by {options.method}", None):
        drawn = draw_map(
            layer_features(cache, layer), options.method, rows=rows, seed=options.seed, option="--method"
        )
    if drawn is None:
        raise OptionError(f"limit: got {limit}, expected at least 3")
    split = run.divide(cache) if run else divide_rows(cache, options.fractions)
    judged = _judged(cache, rows, run) if run else None
    points = _points(cache, rows, split, drawn, judged)
    sampled = (
        f"{len(rows):,} of {len(readable):,} readable images are drawn, from each class in proportion (seed {options.seed})."
        if len(rows) < len(readable)
        else ""
    )
    thumbnails = side = 0
    if outputs.page:
        contents, side = _contents(cache, rows, points, drawn=drawn, judged=judged, options=options)
        thumbnails = sum(bool(each) for each in contents.tiles)
        facts = [_describe(cache, layer, options.method, len(rows)), sampled, *contents.remarks]
        write_map_page(outputs.page, contents, title=f"Map of {cache.path.name}", facts=facts)
    if outputs.table:
        write_table(as_rows(points), outputs.table)
    known = [each for each in points if each.probability is not None]
    return CacheMap(
        cache=cache.path,
        layer=layer,
        method=options.method,
        axes=drawn.axes,
        images=len(readable),
        points=tuple(points),
        sampled=sampled,
        predicted=len(known),
        mistakes=0 if judged is None else int(judged.wrong.sum()),
        thumbnails=thumbnails,
        thumbnail_side=side if thumbnails else 0,
        table=outputs.table,
        page=outputs.page,
        bytes=outputs.page.stat().st_size if outputs.page else 0,
        seconds=time.perf_counter() - started,
    )


def _outputs(out: str | Path | None) -> Outputs:
    """Return the files to write; a folder gets a page and a table."""
    outputs = Outputs.at(out, "map")
    if outputs.picture and not outputs.page:
        raise OptionError(f"out: got {str(out)!r}, expected a folder, or a file ending in .html or .csv")
    return Outputs(outputs.table, None, outputs.page)


def _describe(cache: AnyCache, layer: str, method: str, count: int) -> str:
    names = {
        "pca": "principal components",
        "tsne": "t-SNE of the first 50 principal components",
        "umap": "UMAP with cosine distance",
    }
    meaning = "" if method == "pca" else " Neighbours are similar; large distances have no meaning."
    return f"{count:,} images of {cache.source}, layer {layer}: {names[method]} of standardised features.{meaning}"


def _matching_run(folder: str | Path, cache: AnyCache, options: MapOptions) -> Run:
    """Load a run that was trained on the images of a cache."""
    run = load_run(folder)
    changes = compare_data(run, cache)
    if changes.is_other:
        raise RunError(f"{cache.path} does not hold the images that {run.path} was trained on: {changes}.")
    if not changes.is_same:
        options.report.note(f"The images of {cache.path} are not all those of {run.path}: {changes}.")
    return run


def _layer(cache: AnyCache, named: str | None, run: Run | None) -> str:
    """Return the layer to draw; by default the only one, or that of the run if the cache holds it."""
    if named is None and run is not None and set(run.layer.split("+")) <= {each.key for each in cache.layers}:
        return run.layer
    key, *others = layer_choices(cache, named)
    if others:
        raise RunError("a map draws one layer, or several joined layers: pass e.g. --layer a+b.")
    return key


@dataclass(frozen=True, eq=False)
class _Judged:
    """Predictions of the drawn images; `predicted` is empty and `probability` NaN for those without one."""

    predicted: NDArray[np.str_]
    probability: NDArray[np.float64]
    wrong: NDArray[np.bool_]
    remark: str


def _judged(cache: AnyCache, rows: NDArray[np.int64], run: Run) -> _Judged:
    """Return the predictions that a run recorded for some rows."""
    place = {str(name): index for index, name in enumerate(cache.ids[rows])}
    found = {
        "validation": Predictions.read(run.path / VALIDATION_FILE),
        "test": find_test_predictions(run.path),
    }
    known = {name: each for name, each in found.items() if each is not None}
    if not known:
        raise RunError(
            f"{run.path} recorded no predictions, because it has no validation images and was not evaluated; draw the map"
            " without --run."
        )
    predicted = np.full(len(rows), "", object)
    probability, wrong = np.full(len(rows), np.nan), np.zeros(len(rows), bool)
    for each in known.values():
        for index, name in enumerate(each.ids.tolist()):
            at = place.get(name)
            if at is not None:
                predicted[at], probability[at] = str(each.predicted[index]), each.probability[index]
                wrong[at] = not each.correct[index]
    count = int(np.isfinite(probability).sum())
    remark = f"{run.path} recorded predictions for {count:,} of the images ({' and '.join(known)} images): {int(wrong.sum()):,} mistakes."
    return _Judged(predicted, probability, wrong, remark)


def _points(
    cache: AnyCache, rows: NDArray[np.int64], split: NDArray[np.uint8], drawn: Map, judged: _Judged | None
) -> list[MapPoint]:
    points = []
    for i, (row, (x, y)) in enumerate(zip(rows.tolist(), drawn.points.tolist(), strict=True)):
        label = int(cache.labels[row])
        known = judged is not None and bool(np.isfinite(judged.probability[i]))
        points.append(
            MapPoint(
                image=str(cache.ids[row]),
                x=x,
                y=y,
                label=cache.classes[label] if label >= 0 else "",
                split=SPLITS[split[row]],
                predicted=judged.predicted[i] if judged and known else "",
                probability=float(judged.probability[i]) if judged and known else None,
            )
        )
    return points


def _contents(
    cache: AnyCache,
    rows: NDArray[np.int64],
    points: Sequence[MapPoint],
    *,
    drawn: Map,
    judged: _Judged | None,
    options: MapOptions,
) -> tuple[Contents, int]:
    """Return the contents of the page, and the longest side of its thumbnails."""
    colourings = []
    if judged is not None:
        known = np.isfinite(judged.probability)
        codes = np.where(judged.wrong, 1, np.where(known, 0, -1))
        colourings.append(Colouring("prediction", ("correct", "mistake"), codes, "not predicted"))
    labels = cache.labels[rows]
    if (labels >= 0).any():
        colourings.append(Colouring("class", cache.classes, labels, "no class"))
    splits = np.array([SPLITS.index(each.split) for each in points]) - 1
    colourings.append(Colouring("split", SPLITS[1:], splits, "no split"))
    wanted = MOST_THUMBNAILS if options.thumbnails is None else options.thumbnails
    chosen = stratified(np.arange(len(rows)), labels, wanted, options.seed)
    found = [""] * len(rows)
    remarks = [judged.remark] if judged else []
    with opened_pictures(cache, options.source) as pictures:
        if pictures.obstacle and len(chosen):
            warn_of_obstacle(pictures, options.report)
            remarks.append(pictures.obstacle)
        elif len(chosen):
            with options.report.task("Drawing thumbnails", len(chosen)) as advance:
                made = tiles(pictures, rows[chosen], workers=options.workers, advance=advance)
            for index, each in zip(chosen.tolist(), made, strict=True):
                found[index] = each
            remarks += _remarks(len(chosen), len(rows), sum(not each for each in made), options)
    predictions = [(each.predicted, each.probability) for each in points] if judged else None
    return (
        Contents(
            names=[each.image for each in points],
            points=drawn.points,
            axes=drawn.axes,
            colourings=colourings,
            predictions=predictions,
            tiles=found,
            remarks=remarks,
        ),
        tile_side(len(chosen)),
    )


def _remarks(chosen: int, count: int, lost: int, options: MapOptions) -> list[str]:
    """Return the sentences of the page on its thumbnails."""
    remarks = []
    if chosen < count:
        remarks.append(
            f"{chosen:,} of the images have a thumbnail, chosen from each class in proportion (seed {options.seed})."
        )
    remarks.append(f"Thumbnails have at most {tile_side(chosen)} pixels a side.")
    if lost:
        remarks.append(f"{lost:,} images can't be read any more, and have no thumbnail.")
        options.report.warn(f"{lost} of {chosen} images can't be read, and have no thumbnail.")
    return remarks


def as_rows(points: Sequence[MapPoint]) -> list[dict[str, Any]]:
    """Return one row per point, for a table; predictions are left out if there are none."""
    judged = any(each.predicted for each in points)
    rows = []
    for each in points:
        row = {
            "image": each.image,
            "x": f"{each.x:.6g}",
            "y": f"{each.y:.6g}",
            "label": each.label,
            "split": each.split,
        }
        if judged:
            shown = "" if each.probability is None else f"{each.probability:.6f}"
            row |= {"predicted": each.predicted, "probability": shown}
        rows.append(row)
    return rows
