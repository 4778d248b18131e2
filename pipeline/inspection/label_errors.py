"""The label-errors stage: images whose label is probably wrong."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.errors import HeadError
from frostline.classifiers.heads.catalog import find_head
from frostline.classifiers.inspection.label_errors import find_label_errors
from frostline.classifiers.protocol.splits import positions
from frostline.features.cache import FeatureCache
from frostline.pipeline.drawing.attempts import drawn
from frostline.pipeline.drawing.plots import Mistake, plot_mistakes
from frostline.pipeline.drawing.tables import write_table
from frostline.pipeline.drawing.thumbnails import (
    THUMBNAIL_SIDE,
    check_source,
    opened_pictures,
    warn_of_obstacle,
)
from frostline.pipeline.errors import RunError
from frostline.pipeline.inputs.labelled_images import split_rows
from frostline.pipeline.inputs.layers import layer_choices, layer_features
from frostline.pipeline.options.inspection import LabelErrorOptions
from frostline.pipeline.options.stage import stage
from frostline.splits import Split

_SHOWN = 24
PICTURE, TABLE = "label-errors.png", "label-errors.csv"


@dataclass(frozen=True)
class DoubtfulLabel:
    """An image whose label is probably wrong.

    Attributes:
        image: Name of the image.
        given: Label in the data.
        suggested: Most probable label.
        margin: Probability of the given label minus that of the suggested one; labels are ranked by it.
    """

    image: str
    given: str
    suggested: str
    margin: float


@dataclass(frozen=True)
class LabelErrors:
    """Probably wrong labels of the train and val rows of a cache.

    Attributes:
        cache: Path of the cache.
        layer: Key of the layer that the head reads.
        rows: Number of rows whose label was scored.
        found: Probably wrong labels, the most doubtful first.
        per_class: Number of probably wrong labels per given class.
        picture: Thumbnails of the most doubtful labels; None without findings or without an output folder, or if they
            could not be drawn.
        table: CSV file of all findings; None without an output folder.
        seconds: Wall time.
    """

    cache: Path
    layer: str
    rows: int
    found: tuple[DoubtfulLabel, ...]
    per_class: Mapping[str, int]
    picture: Path | None
    table: Path | None
    seconds: float


@stage(LabelErrorOptions)
def label_errors(cache: str | Path | FeatureCache, options: LabelErrorOptions) -> LabelErrors:
    """Find probably wrong labels of train and val rows by confident learning; test rows are not read.

    Every row is scored by a head that was fitted without the row, its copies and its group.

    Args:
        cache: The cache or its path.
        options: Options of the stage.

    Raises:
        ClassifiersError: The head or the rows are not usable, or cleanlab is not installed.
        FeaturesError: The cache is not usable, or `source` has none of its images.
        RunError: The layer does not exist.
    """
    started = time.perf_counter()
    if not isinstance(cache, FeatureCache):
        cache = FeatureCache.open(cache)
    check_source(cache, options.source)
    key, *others = layer_choices(cache, options.layer)
    if others:
        raise RunError("label-errors reads one layer, or several joined layers: pass e.g. --layer a+b.")
    split, _ = split_rows(cache, options.fractions)
    rows = np.flatnonzero((split == Split.TRAIN) | (split == Split.VAL))
    together = positions(cache.content[rows], cache.groups[rows]).astype(str)
    kind = find_head(options.head, options.trusted)
    estimator = kind.build(kind.complete({}), options.seed, options.device)
    if not hasattr(estimator, "predict_proba"):
        raise HeadError(
            f"head {options.head!r} predicts no probabilities, which label-errors needs; choose another, such as linear"
        )
    with options.report.task("Scoring labels", None):
        try:
            issues = find_label_errors(
                np.asarray(layer_features(cache, key)[rows], np.float32),
                cache.labels[rows],
                estimator,
                folds=options.folds,
                groups=together,
                seed=options.seed,
            )
        except ImportError as error:
            raise HeadError(str(error)) from error
    doubtful = rows[issues.rows]
    found = tuple(
        DoubtfulLabel(str(cache.ids[row]), cache.classes[given], cache.classes[suggested], float(margin))
        for row, given, suggested, margin in zip(
            doubtful, issues.given, issues.suggested, issues.margin, strict=True
        )
    )
    picture = table = None
    if options.out is not None:
        table = Path(options.out) / TABLE
        write_table([vars(each) for each in found], table, [each.name for each in fields(DoubtfulLabel)])
        (Path(options.out) / PICTURE).unlink(missing_ok=True)  # that of an earlier call
    if options.out is not None and found:
        picture = drawn(
            Path(options.out) / PICTURE,
            lambda path: _draw(cache, doubtful, found, path, options),
            options.report,
        )
    return LabelErrors(
        cache=cache.path,
        layer=key,
        rows=issues.scored,
        found=found,
        per_class={cache.classes[label]: count for label, count in issues.per_class.items()},
        picture=picture,
        table=table,
        seconds=time.perf_counter() - started,
    )


def _draw(
    cache: FeatureCache,
    rows: NDArray[np.int64],
    found: Sequence[DoubtfulLabel],
    path: Path,
    options: LabelErrorOptions,
) -> None:
    with opened_pictures(cache, options.source) as pictures:
        warn_of_obstacle(pictures, options.report)
        shown = [
            Mistake(pictures.thumbnail(int(row), THUMBNAIL_SIDE), each.given, each.suggested, -each.margin)
            for row, each in zip(rows[:_SHOWN], found, strict=False)
        ]
    plot_mistakes(
        shown,
        path,
        title=f"The {len(shown)} most doubtful of {len(found)} labels, with the margin",
        word="given",
        remark=pictures.obstacle,
    )
