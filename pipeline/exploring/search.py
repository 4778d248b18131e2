"""The search stage: the nearest images of new images, or of images of the cache."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.errors import OptionError
from frostline.features.cache import FeatureCache
from frostline.features.cache.contract import Provenance
from frostline.features.cache.search import NearestRows, rows_of, search_rows
from frostline.features.errors import BackboneError, SearchError
from frostline.features.images.decoding import DecodeError
from frostline.features.images.thumbnails import Pictures, Thumbnail, load_thumbnail
from frostline.features.table import OK, ImageSource
from frostline.pipeline.drawing.sheets import SHEET_SIDE, Strip, Tile
from frostline.pipeline.drawing.thumbnails import check_source, opened_pictures, warn_of_obstacle
from frostline.pipeline.errors import RunError
from frostline.pipeline.exploring.outputs import Outputs, check_apart, label_of
from frostline.pipeline.extraction.new_images import new_computation, new_features
from frostline.pipeline.inputs.labelled_images import choose_layer
from frostline.pipeline.inputs.networks import load_matching
from frostline.pipeline.inputs.sources import named_images
from frostline.pipeline.inputs.unreadable import report_remarks
from frostline.pipeline.options.stage import stage
from frostline.pipeline.options.vectors.search import SearchOptions
from frostline.registry import near
from frostline.splits import SPLITS

COLUMNS = ("query", "rank", "image", "label", "split", "distance", "error")


@dataclass(frozen=True)
class Neighbour:
    """An image of the cache that is near a query.

    Attributes:
        image: Id of the image.
        label: Class, empty if unknown.
        split: Declared split, empty without one.
        distance: Distance from the query, in the metric of the search.
    """

    image: str
    label: str
    split: str
    distance: float


@dataclass(frozen=True)
class Matches:
    """The nearest images of one query.

    Attributes:
        query: Id of the query in the cache, its path, or the number of its vector.
        label: Class of a query from the cache; empty for any other.
        neighbours: The nearest images, the nearest first.
        error: Reason why the query could not be read; None if it could.
    """

    query: str
    label: str
    neighbours: tuple[Neighbour, ...]
    error: str | None = None


@dataclass(frozen=True)
class SearchResult:
    """Result of a search.

    Attributes:
        cache: Path of the cache.
        layer: Layer in which images were compared.
        metric: ``cosine`` or ``euclidean``.
        searched: Number of images that were searched.
        queries: The queries in their order, with the nearest images of each.
        table: CSV file; None if none was written.
        picture: Contact sheet; None if none was written.
        page: HTML page; None if none was written.
        seconds: Wall time.
    """

    cache: Path
    layer: str
    metric: str
    searched: int
    queries: tuple[Matches, ...]
    table: Path | None
    picture: Path | None
    page: Path | None
    seconds: float

    @property
    def unread(self) -> int:
        """Number of queries that could not be read."""
        return sum(each.error is not None for each in self.queries)


@dataclass
class _Queries:
    """Queries: rows of the cache, or vectors, of which those of unreadable images are left out."""

    names: list[str]
    vectors: NDArray[Any]
    rows: NDArray[np.int64] | None = None
    source: ImageSource | None = None
    errors: dict[int, str] = field(default_factory=dict)

    @property
    def used(self) -> NDArray[np.int64]:
        """Numbers of the queries that are searched for."""
        return np.array([number for number in range(len(self.names)) if number not in self.errors], np.int64)


@stage(SearchOptions)
def search(cache: str | Path | FeatureCache, options: SearchOptions) -> SearchResult:
    """Find the nearest images of a cache for new images, for images of the cache, or for vectors.

    New images go through the backbone, transform and layer of the cache, in the same way as its own. The search is
    exact; of equally near images, the first of the cache comes first. Unreadable images of the cache are never found.
    An image of the cache is not among its own neighbours, but its copies are.

    Args:
        cache: The cache or its path.
        options: Options of the stage. One of `images`, `row` and `vectors` says what to search for.

    Raises:
        FeaturesError: The cache is not usable, an id or a vector is not valid, or the backbone can't be built here.
        RunError: The layer does not exist, or the weights of the backbone are not those of the cache.
        OptionError: An option is out of range, or not exactly one says what to search for.
    """
    started = time.perf_counter()
    outputs = Outputs.at(options.out, "search")
    if not isinstance(cache, FeatureCache):
        cache = FeatureCache.open(cache)
    check_apart(cache, outputs)
    check_source(cache, options.source)
    layer = choose_layer(cache, options.layer).key
    among = _among(cache, options)
    queries = _queries(cache, layer, options)
    found = _search(cache, layer, queries, among, options)
    matches = _matches(cache, queries, found)
    remark = ""

    def strips() -> list[Strip]:
        nonlocal remark
        with opened_pictures(cache, options.source) as pictures:
            warn_of_obstacle(pictures, options.report)
            remark = pictures.obstacle
            return _strips(queries, matches, found, pictures, outputs.tiles)

    written = outputs.write(
        as_rows(matches),
        strips,
        columns=COLUMNS,
        title=f"Nearest images in {cache.path.name}",
        remark=lambda: " ".join(filter(None, [f"{_measure(options.metric)} of {layer}.", remark])),
        report=options.report,
    )
    return SearchResult(
        cache=cache.path,
        layer=layer,
        metric=options.metric,
        searched=len(among),
        queries=tuple(matches),
        table=written.table,
        picture=written.picture,
        page=written.page,
        seconds=time.perf_counter() - started,
    )


def _measure(metric: str) -> str:
    return "Cosine distance (1 - cosine)" if metric == "cosine" else "Euclidean distance"


def _among(cache: FeatureCache, options: SearchOptions) -> NDArray[np.int64]:
    """Return the rows to search."""
    kept = cache.ok.copy()
    if options.in_split:
        kept &= cache.split == SPLITS.index(options.in_split)
    if options.classes:
        for name in options.classes:
            if name not in cache.classes:
                raise OptionError(
                    f"class: {cache.path} has no class {name!r}{near(name, cache.classes)}; its {len(cache.classes)}"
                    " classes are listed by: frostline cache info"
                )
        kept &= np.isin(cache.labels, [cache.classes.index(name) for name in options.classes])
    rows = np.flatnonzero(kept)
    if not rows.size:
        where = [f"--in-split {options.in_split}"] * bool(options.in_split)
        where += [f"--class {name}" for name in options.classes]
        declared = sorted({SPLITS[code] or "no split" for code in np.unique(cache.split).tolist()})
        raise SearchError(
            f"{cache.path}: has no readable image {' '.join(['with', *where]) if where else 'at all'}; splits that its images"
            f" are declared to be in: {', '.join(declared)}"
        )
    return rows


def _queries(cache: FeatureCache, layer: str, options: SearchOptions) -> _Queries:
    """Return what to search for; new images are embedded."""
    new = not (isinstance(options.images, tuple) and not options.images)
    if new + bool(options.row) + (options.vectors is not None) != 1:
        raise OptionError(
            "search: name what to search for, and only one of it: new images, --row, or vectors in a script"
        )
    if options.row:
        return _Queries(list(options.row), np.empty((0, 0)), rows_of(cache, options.row))
    if options.vectors is not None:
        vectors = np.atleast_2d(np.asarray(options.vectors))
        return _Queries([f"vector {number}" for number in range(len(vectors))], vectors)
    return _embedded(cache, layer, options)


def _embedded(cache: FeatureCache, layer: str, options: SearchOptions) -> _Queries:
    source = named_images(options.images, options)
    count = len(source.table)
    vectors = np.zeros((count, next(each.dim for each in cache.layers if each.key == layer)), np.float32)
    names = [str(source.path(row) or os.fsdecode(source.table.ids[row])) for row in range(count)]
    queries = _Queries(names, vectors, source=source)
    if not count:
        return queries
    try:
        net = load_matching(
            cache.spec, f"{cache.path} holds", recorded=cache.weights or None, weights=options.weights
        )
    except BackboneError as error:
        raise RunError(
            f"{cache.path}: new images can't be embedded, because its backbone can't be loaded: {error}. Search for images"
            " of the cache with --row ID, or pass vectors in a script."
        ) from error
    remarks: dict[str, str] = {}
    batches = new_features(source, Provenance.of(cache), net, (layer,), new_computation(options, count))
    with options.report.task("Embedding", count) as advance:
        for batch, outputs in batches:
            vectors[batch.rows] = outputs[layer][: len(batch.rows)]
            for row, status, reason in zip(batch.rows.tolist(), batch.status, batch.errors, strict=True):
                if status != OK:
                    queries.errors[row] = reason
            remarks |= {names[row]: text for row, text in batch.remarks.items()}
            advance(len(batch.rows))
    report_remarks(remarks, options.report)
    return queries


def _search(
    cache: FeatureCache, layer: str, queries: _Queries, among: NDArray[np.int64], options: SearchOptions
) -> NearestRows | None:
    """Return the nearest rows of the readable queries; None without any."""
    if not queries.used.size:
        return None
    rows = queries.rows
    own = rows is not None and not options.include_self
    most = len(among) - int(rows is not None and own and bool(np.isin(rows, among).any()))
    if options.k > most > 0:
        options.report.note(f"Only {most} images can be found, fewer than the {options.k} asked for.")
    with options.report.task("Searching", None):
        return search_rows(
            cache,
            queries.vectors[queries.used] if rows is None else rows,
            min(options.k, most),
            layer=layer,
            metric=options.metric,
            exclude_self=own,
            among=among,
            device=options.device,
        )


def _matches(cache: FeatureCache, queries: _Queries, found: NearestRows | None) -> list[Matches]:
    place = {int(number): index for index, number in enumerate(queries.used)}
    matches = []
    for number, name in enumerate(queries.names):
        label = "" if queries.rows is None else label_of(cache, int(queries.rows[number]))
        if found is None or number not in place:
            matches.append(Matches(name, label, (), queries.errors.get(number)))
            continue
        rows, distances = found.rows[place[number]], found.distances[place[number]]
        neighbours = tuple(
            Neighbour(str(cache.ids[row]), label_of(cache, row), SPLITS[cache.split[row]], distance)
            for row, distance in zip(rows.tolist(), distances.tolist(), strict=True)
        )
        matches.append(Matches(name, label, neighbours))
    return matches


def as_rows(matches: Sequence[Matches]) -> list[dict[str, Any]]:
    """Return one row per neighbour, and one per query that could not be read, for a table."""
    rows: list[dict[str, Any]] = []
    for each in matches:
        if each.error is not None:
            rows.append(dict(zip(COLUMNS, (each.query, "", "", "", "", "", each.error), strict=True)))
        for rank, one in enumerate(each.neighbours, 1):
            values = (each.query, rank, one.image, one.label, one.split, f"{one.distance:.6g}", "")
            rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def _strips(
    queries: _Queries,
    matches: Sequence[Matches],
    found: NearestRows | None,
    pictures: Pictures,
    most: int,
) -> list[Strip]:
    """Return a strip per query: the query, then its neighbours."""
    strips: list[Strip] = []
    tiles = 0
    used = {int(number): index for index, number in enumerate(queries.used)}
    for number, each in enumerate(matches):
        if tiles >= most:
            break
        shown = [Tile(_query_picture(queries, number, pictures), ("query", each.label), marked=True)]
        rows = [] if found is None or number not in used else found.rows[used[number]].tolist()
        for row, one in zip(rows, each.neighbours, strict=True):
            shown.append(Tile(pictures.thumbnail(row, SHEET_SIDE), (f"{one.distance:.4g}", one.label)))
        strips.append(Strip(each.query if each.error is None else f"{each.query}: {each.error}", shown))
        tiles += len(shown)
    return strips


def _query_picture(queries: _Queries, number: int, pictures: Pictures) -> Thumbnail:
    name = queries.names[number]
    if queries.rows is not None:
        return pictures.thumbnail(int(queries.rows[number]), SHEET_SIDE)
    if queries.source is None or number in queries.errors:
        return Thumbnail(name, None)
    try:
        return Thumbnail(name, load_thumbnail(queries.source.read(number)[0], SHEET_SIDE, pictures.decoder))
    except (OSError, DecodeError, MemoryError):
        return Thumbnail(name, None)
