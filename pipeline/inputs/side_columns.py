"""Side columns of a cache as a head reads them: beside the features, encoded on the training rows."""

import hashlib
from collections.abc import Sequence
from typing import Any

from frostline.classifiers.fitting.columns import ColumnEncoding, EncodedRows
from frostline.pipeline.inputs.joined_caches import AnyCache
from frostline.pipeline.inputs.layers import JoinedLayers, layer_features
from frostline.pipeline.inputs.learning_rows import LearningRows


def fit_columns(rows: LearningRows[AnyCache], names: Sequence[str]) -> ColumnEncoding | None:
    """Return the encoding of side columns, fitted to the training rows; None without names.

    Raises:
        HeadError: There is no such column, or it has the same value in all training rows.
    """
    cache = rows.images
    return ColumnEncoding.fit(cache.columns, rows.train, names, str(cache.path)) if names else None


def digest_of(rows: LearningRows[AnyCache], columns: ColumnEncoding | None) -> str:
    """Return a digest of the encoded side columns of the training and validation rows; empty without columns."""
    if columns is None:
        return ""
    return hashlib.sha256(columns.encode(rows.images.columns, rows.read).tobytes()).hexdigest()


def head_rows(cache: AnyCache, layer: str, columns: ColumnEncoding | None) -> Any:
    """Return the rows that a head is given: the features of a layer, followed by encoded side columns.

    Raises:
        HeadError: The cache lacks a column.
    """
    return with_columns(layer_features(cache, layer), cache, columns)


def with_columns(features: Any, cache: AnyCache, columns: ColumnEncoding | None) -> Any:
    """Return features of a cache, followed by its encoded side columns if there are some."""
    if columns is None:
        return features
    return JoinedLayers((features, EncodedRows(cache.columns, columns, str(cache.path))))
