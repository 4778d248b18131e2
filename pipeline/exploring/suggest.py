"""The suggest stage: which unlabelled images to label next."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.inspection.selection import Chosen, Rule, doubts, rows_to_label
from frostline.errors import OptionError
from frostline.features.cache import FeatureCache
from frostline.features.cache.search import stored_rows
from frostline.features.errors import SearchError
from frostline.features.images.thumbnails import Pictures
from frostline.pipeline.drawing.sheets import SHEET_SIDE, Strip, Tile
from frostline.pipeline.drawing.tables import write_table
from frostline.pipeline.drawing.thumbnails import check_source, opened_pictures
from frostline.pipeline.exploring.manifests import listed_outputs, write_manifest
from frostline.pipeline.exploring.outputs import Outputs
from frostline.pipeline.inputs.joined_caches import AnyCache, image_digests, open_caches
from frostline.pipeline.inputs.labelled_images import divide_rows
from frostline.pipeline.inputs.layers import JoinedLayers, layer_choices, layer_keys
from frostline.pipeline.inputs.side_columns import head_rows
from frostline.pipeline.options.stage import stage
from frostline.pipeline.options.vectors.suggest import SuggestOptions
from frostline.pipeline.runs.caches import check_compatible
from frostline.pipeline.runs.run import Run, load_run
from frostline.splits import SPLITS, Split

COLUMNS = ("rank", "image", "split", "distance", "predicted", "probability", "uncertainty")
_BLOCK_VALUES = 2**22  # numbers of the features of a block of rows
_REMARKS = {
    "coreset": "Each is the farthest from its nearest labelled or earlier suggested image.",
    "uncertainty": "The run is least certain of these images.",
    "both": "The run is least certain of these images of different clusters.",
}


@dataclass(frozen=True)
class Suggestion:
    """An image to label.

    Attributes:
        image: Id of the image.
        split: Declared split, empty without one.
        distance: Distance from the nearest image that is labelled or suggested earlier; None if images were not chosen by
            it, and for the first image if none is labelled.
        predicted: Most probable class; None without a run.
        probability: Its calibrated probability; None without a run.
        uncertainty: Uncertainty of the prediction; None without a run.
    """

    image: str
    split: str
    distance: float | None
    predicted: str | None
    probability: float | None
    uncertainty: float | None


@dataclass(frozen=True)
class Suggestions:
    """Images to label next.

    Attributes:
        cache: Path of the cache.
        run: Run whose predictions were used; None without one.
        by: ``coreset``, ``uncertainty`` or ``both``.
        layer: Layer in which images were compared.
        labelled: Number of labelled images of train and val, which are the first centres of the coreset.
        unlabelled: Number of images to choose from.
        copies: Number of unlabelled images that were left out, because their bytes are those of a labelled image or of an
            earlier unlabelled one.
        images: The suggestions, in the order in which to label them.
        listing: CSV file of the suggestions; None if none was written.
        manifest: Manifest to fill in; None if none was written.
        picture: Contact sheet; None if none was written.
        page: HTML page; None if none was written.
        seconds: Wall time.
    """

    cache: Path
    run: Path | None
    by: Rule
    layer: str
    labelled: int
    unlabelled: int
    copies: int
    images: tuple[Suggestion, ...]
    listing: Path | None
    manifest: Path | None
    picture: Path | None
    page: Path | None
    seconds: float


@dataclass(frozen=True, eq=False)
class _Predictions:
    """Predictions for some rows of a cache."""

    classes: Sequence[str]
    predicted: NDArray[np.int64]
    probability: NDArray[np.float64]
    doubt: NDArray[np.float64]


@stage(SuggestOptions)
def suggest(cache: str | Path | AnyCache, options: SuggestOptions) -> Suggestions:
    """Suggest which unlabelled images to label next.

    Chosen are readable images without a label, except those that the data set declares to be in test. Of images of equal
    bytes the first is taken, and none that is a copy of a labelled one.

    ``coreset``: image by image the one that is farthest from its nearest labelled or suggested image (Sener & Savarese
    2018). ``uncertainty``: the images with the most uncertain calibrated probabilities of a run. ``both``: the most
    uncertain images of each of n clusters of uncertain images (after Zhdanov 2019 and Citovsky et al. 2021). See
    `frostline.classifiers.inspection.selection`.

    Labelled images of test, by the division of the run or by `fractions`, are no centres, because no head learns from
    them: neither their labels nor their vectors are read. Cosines are those of centred features, as in `dedupe`.

    Args:
        cache: The cache or its path, or several joined by ``+`` if the run was trained on several.
        options: Options of the stage.

    Raises:
        FeaturesError: The cache is not usable, `source` has none of its images, or no image can be suggested.
        RunError: The run does not fit the cache, the layer does not exist, or the images can't be named in a manifest.
        ClassifiersError: The head of the run is not usable, or the device is not available.
        OptionError: An option is out of range, options exclude each other, or the manifest exists.
    """
    started = time.perf_counter()
    cache = open_caches(cache)
    outputs, listing, manifest = listed_outputs(
        cache, options.out, options.listing, options.source, "suggestions"
    )
    _check_new(manifest)
    check_source(cache, options.source)
    run = None if options.run is None else load_run(options.run)
    layer = _layer(cache, run, options)
    rows, copies = _candidates(cache, options)
    split = run.divide(cache) if run else divide_rows(cache, options.fractions)
    labelled = np.flatnonzero((split == Split.TRAIN) | (split == Split.VAL))
    found = _predict(cache, run, rows, options) if run else None
    if len(rows) < options.n:
        options.report.note(
            f"Only {len(rows)} images can be suggested, fewer than the {options.n} asked for."
        )
    count = min(options.n, len(rows))
    steps = len(rows) + count if options.rule == "coreset" else None
    with options.report.task("Choosing images", steps) as advance:
        chosen = rows_to_label(
            _vectors(cache, layer),
            rows,
            labelled,
            count,
            options.rule,
            doubt=found.doubt if found else None,
            pool=options.pool,
            metric=options.metric,
            seed=options.seed,
            device=options.device,
            advance=advance,
        )
    images = _suggestions(cache, chosen, found, np.searchsorted(rows, chosen.rows))
    if listing:
        write_table(as_rows(images), listing, COLUMNS)
    with opened_pictures(cache, options.source) as pictures:
        written = outputs.write(
            as_rows(images),
            lambda: [_strip(chosen.rows, images, pictures, outputs)],
            columns=COLUMNS,
            title=f"Images of {cache.path.name} to label next",
            remark=lambda: " ".join(filter(None, [_REMARKS[options.rule], pictures.obstacle])),
            report=options.report,
        )
    if manifest:  # last, because the next run refuses to replace it
        kept = np.flatnonzero(cache.ok & (cache.labels >= 0)) if options.with_labelled else chosen.rows[:0]
        write_manifest(manifest, cache, np.concatenate([chosen.rows, kept]), options.source)
    return Suggestions(
        cache=cache.path,
        run=run.path if run else None,
        by=options.rule,
        layer=layer,
        labelled=len(labelled),
        unlabelled=len(rows),
        copies=copies,
        images=tuple(images),
        listing=listing,
        manifest=manifest,
        picture=written.picture,
        page=written.page,
        seconds=time.perf_counter() - started,
    )


def _check_new(manifest: Path | None) -> None:
    """Raise `OptionError` if the manifest exists, because labels may have been filled in."""
    if manifest and manifest.exists():
        raise OptionError(
            f"out: {manifest} exists, and may hold labels that were filled in; choose another name, or delete it"
        )


def _layer(cache: AnyCache, run: Run | None, options: SuggestOptions) -> str:
    """Return the key of the layer that is compared, or that the run reads."""
    if run:
        check_compatible(run, cache, options.report)
        if options.layer is None:
            return run.layer
    choices = layer_choices(cache, options.layer)
    if len(choices) > 1:
        raise OptionError(f"layer: got {options.layer}, expected one layer, or several joined by +")
    return choices[0]


def _vectors(cache: AnyCache, layer: str) -> Any:
    """Return the vectors of a layer, single or joined, to read in blocks."""
    parts = tuple(
        stored_rows(cache, key) if isinstance(cache, FeatureCache) else cache.features(key)
        for key in layer_keys(layer)
    )
    return parts[0] if len(parts) == 1 else JoinedLayers(parts)


def _candidates(cache: AnyCache, options: SuggestOptions) -> tuple[NDArray[np.int64], int]:
    """Return the sorted rows to choose from, and the number of copies that were left out."""
    place = cache.split == SPLITS.index(options.in_split) if options.in_split else cache.split != Split.TEST
    unlabelled = cache.ok & (cache.labels < 0)
    rows = np.flatnonzero(unlabelled & place)
    digests = image_digests(cache.content)
    known = digests[rows] != bytes(16)
    _, first = np.unique(digests[rows], return_index=True)
    once = np.isin(np.arange(len(rows)), first) & ~np.isin(digests[rows], digests[cache.labels >= 0])
    kept = rows[~known | once]
    if not kept.size:
        where = f" in {options.in_split}" if options.in_split else ""
        raise SearchError(
            f"{cache.path}: has no image{where} to suggest: {int((cache.labels >= 0).sum())} of its {cache.rows} images have a"
            f" label, {int((~cache.ok).sum())} could not be read, {len(rows)} without a label are copies, and"
            f" {int((unlabelled & ~place).sum())} without a label are in other splits. Add images without a label, such as"
            " rows of a manifest with an empty label, and extract again"
        )
    return kept, len(rows) - len(kept)


def _predict(cache: AnyCache, run: Run, rows: NDArray[np.int64], options: SuggestOptions) -> _Predictions:
    """Predict some rows of the cache in blocks."""
    head = run.head(trusted=options.trusted)
    X = head_rows(cache, run.layer, head.columns)
    found = _Predictions(
        head.classes, np.empty(len(rows), np.int64), np.empty(len(rows)), np.empty(len(rows))
    )
    step = max(1, _BLOCK_VALUES // X.shape[1])
    with options.report.task("Predicting", len(rows)) as advance:
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            proba = head.predict_proba(np.asarray(X[rows[part]]))
            found.predicted[part], found.probability[part] = proba.argmax(axis=1), proba.max(axis=1)
            found.doubt[part] = doubts(proba, options.uncertainty)
            advance(len(proba))
    return found


def _suggestions(
    cache: AnyCache, chosen: Chosen, found: _Predictions | None, places: NDArray[np.int64]
) -> list[Suggestion]:
    images = []
    for row, distance, place in zip(
        chosen.rows.tolist(), chosen.distances.tolist(), places.tolist(), strict=True
    ):
        images.append(
            Suggestion(
                image=str(cache.ids[row]),
                split=SPLITS[cache.split[row]],
                distance=distance if np.isfinite(distance) else None,
                predicted=found.classes[found.predicted[place]] if found else None,
                probability=float(found.probability[place]) if found else None,
                uncertainty=float(found.doubt[place]) if found else None,
            )
        )
    return images


def as_rows(images: Sequence[Suggestion]) -> list[dict[str, Any]]:
    """Return one row per suggestion, for a table; what is not known is empty."""
    return [
        dict(
            zip(
                COLUMNS,
                (
                    rank,
                    each.image,
                    each.split,
                    _text(each.distance),
                    each.predicted or "",
                    _text(each.probability),
                    _text(each.uncertainty),
                ),
                strict=True,
            )
        )
        for rank, each in enumerate(images, 1)
    ]


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def _strip(
    rows: NDArray[np.int64], images: Sequence[Suggestion], pictures: Pictures, outputs: Outputs
) -> Strip:
    tiles = []
    for rank, (row, each) in enumerate(zip(rows.tolist(), images, strict=True), 1):
        if rank > outputs.tiles:
            break
        lines = [str(rank) if each.distance is None else f"{rank}: distance {each.distance:.3f}"]
        if each.predicted is not None and each.probability is not None:
            lines.append(f"predicted {each.predicted} ({each.probability:.2f})")
        tiles.append(Tile(pictures.thumbnail(row, SHEET_SIDE), tuple(lines)))
    return Strip(f"{len(images)} images, in the order in which to label them", tiles)
