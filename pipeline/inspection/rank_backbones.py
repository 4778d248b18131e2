"""The rank stage: transferability scores of backbones from cached features, before any training."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from frostline.classifiers.experiments.transferability import h_score, leep, log_me, nce, one_nn
from frostline.features.cache import FeatureCache
from frostline.pipeline.errors import RunError
from frostline.pipeline.inputs.joined_caches import image_digests
from frostline.pipeline.inputs.labelled_images import split_rows
from frostline.pipeline.inputs.layers import layer_choices, layer_features
from frostline.pipeline.options.inspection import RankOptions, Transferability
from frostline.pipeline.options.stage import stage
from frostline.splits import Split

SCORES: Mapping[Transferability, str] = MappingProxyType(
    {"log_me": "LogME", "h_score": "H-score", "one_nn": "1-NN", "leep": "LEEP", "nce": "NCE"}
)
"""Usual names of the scores of `RankedLayer`, by field; larger is better."""

_LOGITS = "logits"


@dataclass(frozen=True)
class RankedLayer:
    """Scores of one layer of one cache; see `frostline.classifiers.experiments.transferability` for definitions and sources.

    Attributes:
        cache: Path of the cache.
        backbone: Name of the backbone.
        layer: Key of the layer.
        width: Number of features.
        log_me: Logarithm of maximum evidence.
        h_score: H-score with a shrunk covariance.
        one_nn: Leave-one-out accuracy of the nearest neighbour.
        leep: Log expected empirical prediction of the backbone's own classifier; None if the cache has no logits.
        nce: Negative conditional entropy of the backbone's own classifier; None if the cache has no logits.
        seconds: Wall time of scoring.
    """

    cache: Path
    backbone: str
    layer: str
    width: int
    log_me: float
    h_score: float
    one_nn: float
    leep: float | None
    nce: float | None
    seconds: float


@dataclass(frozen=True)
class Ranking:
    """Layers of caches, the most promising first.

    Attributes:
        by: Score that the layers are ranked by.
        rows: Number of scored train and val rows of each cache.
        ranked: The layers, best first.
        notes: Remarks on the comparison, one sentence each.
    """

    by: str
    rows: tuple[int, ...]
    ranked: tuple[RankedLayer, ...]
    notes: tuple[str, ...]


@stage(RankOptions)
def rank(caches: Sequence[str | Path | FeatureCache], options: RankOptions) -> Ranking:
    """Rank the layers of caches by a score that predicts the accuracy of a head; test rows are not read.

    Args:
        caches: Caches of the same images by several backbones, or a single cache.
        options: Options of the stage.

    Raises:
        ClassifiersError: The labels or features can't be scored.
        FeaturesError: A cache is not usable.
        RunError: No cache is named, or a cache does not have the layer.
    """
    if isinstance(caches, str | Path | FeatureCache):
        caches = [caches]
    if not caches:
        raise RunError("no caches to rank; name one or more.")
    opened = [cache if isinstance(cache, FeatureCache) else FeatureCache.open(cache) for cache in caches]
    choices = [_layers(cache, options.layer) for cache in opened]
    ranked: list[RankedLayer] = []
    images = []
    with options.report.task("Scoring layers", sum(map(len, choices))) as advance:
        for cache, keys in zip(opened, choices, strict=True):
            split, _ = split_rows(cache, options.fractions)
            rows = np.flatnonzero((split == Split.TRAIN) | (split == Split.VAL))
            images.append(np.sort(image_digests(cache.content[rows])))
            source = _source_scores(cache, rows)
            for key in keys:
                ranked.append(_score(cache, key, rows, source, options.device))
                advance(1)
    same = all(np.array_equal(images[0], other) for other in images[1:])
    notes = () if same else ("The caches hold different images: their scores can't be compared.",)
    by = options.by
    ranked.sort(key=lambda each: -np.inf if getattr(each, by) is None else getattr(each, by), reverse=True)
    return Ranking(by, tuple(map(len, images)), tuple(ranked), notes)


def _layers(cache: FeatureCache, layer: str | None) -> tuple[str, ...]:
    if layer != "all":
        return layer_choices(cache, layer)
    keys = tuple(each.key for each in cache.layers if each.name != _LOGITS)
    return keys or (_LOGITS,)


def _source_scores(cache: FeatureCache, rows: NDArray[np.int64]) -> dict[str, float | None]:
    """Return LEEP and NCE of the backbone's own classifier; None if the cache does not hold its logits."""
    if _LOGITS not in {each.key for each in cache.layers}:
        return {"leep": None, "nce": None}
    proba = softmax(np.asarray(cache.features(_LOGITS)[rows], np.float64), axis=1)
    labels = cache.labels[rows]
    return {"leep": leep(proba, labels), "nce": nce(proba.argmax(axis=1), labels)}


def _score(
    cache: FeatureCache, key: str, rows: NDArray[np.int64], source: dict[str, float | None], device: str
) -> RankedLayer:
    began = time.perf_counter()
    X: NDArray[Any] = layer_features(cache, key)[rows]
    labels = cache.labels[rows]
    return RankedLayer(
        cache=cache.path,
        backbone=cache.spec.backbone,
        layer=key,
        width=X.shape[1],
        log_me=log_me(X, labels),
        h_score=h_score(X, labels),
        one_nn=one_nn(X, labels, device=device),
        leep=source["leep"],
        nce=source["nce"],
        seconds=time.perf_counter() - began,
    )
