"""Predictions for the rows of a cache, and for arrays of features, with the head of a run alone."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.errors import OptionError
from frostline.features.cache.file.encoding import decode, encode
from frostline.features.cache.imported.numbers import Conversion
from frostline.features.cache.imported.vectors import from_bits, plain_array
from frostline.features.errors import VectorsError
from frostline.features.sources.numbering import numbered
from frostline.pipeline.inputs.joined_caches import AnyCache, open_caches
from frostline.pipeline.inputs.layers import joined_layers, layer_keys
from frostline.pipeline.inputs.side_columns import head_rows
from frostline.pipeline.judging.prediction import Labeller, Prediction
from frostline.pipeline.progress import Reporter
from frostline.pipeline.runs.caches import check_compatible
from frostline.pipeline.runs.run import Run

_BLOCK_VALUES = 1 << 20  # numbers of a block of rows


def predict_cache(
    run: Run, named: str | Path | AnyCache, labeller: Labeller, report: Reporter
) -> list[Prediction]:
    """Classify the rows of a cache, or of several joined by ``+``.

    Raises:
        RunError: The features are not those that the run was trained on.
        FeaturesError: The cache is not usable.
    """
    cache = open_caches(named)
    check_compatible(run, cache, report)
    features, ids, errors = head_rows(cache, run.layer, labeller.head.columns), cache.ids, cache.errors
    predictions: list[Prediction] = []
    with report.task("Predicting", cache.rows) as advance:
        for rows in _blocks(cache.rows, features.shape[1]):
            found = np.asarray(features[rows], np.float32)
            names = [(str(name), None) for name in ids[rows]]
            reasons = [errors.get(row, "") for row in range(rows.start, rows.stop)]
            predictions += labeller.label(names, reasons, found)
            advance(len(names))
    return predictions


def predict_features(run: Run, features: Any, labeller: Labeller, report: Reporter) -> list[Prediction]:
    """Classify (n, d) features, rounded as those of the training cache. A row that is not finite gets a reason.

    Raises:
        OptionError: The features have another shape or other layers.
    """
    if labeller.head.columns:
        raise OptionError(
            f"features: the head of {run.path} reads side columns too, which an array does not have; pass a cache that has them"
        )
    parts = _parts(run, features)
    predictions: list[Prediction] = []
    names = numbered(len(parts[0][1]))
    conversions = [Conversion(key, kind) for key, _, kind in parts]
    with report.task("Predicting", len(names)) as advance:
        for rows in _blocks(len(names), labeller.head.dim):
            found, reasons = [], [""] * len(names[rows])
            for conversion, (_, part, kind) in zip(conversions, parts, strict=True):
                try:
                    values, unusable = conversion.convert(part[rows])
                except VectorsError as error:
                    raise OptionError(f"features: {error}") from None
                if unusable:
                    values = values.copy()  # may be the array that was passed
                for row, reason in unusable.items():
                    reasons[row] = reasons[row] or reason
                    values[row] = 0  # gets no label
                found.append(decode(encode(values, kind), kind))
            predictions += labeller.label(
                [(name, None) for name in names[rows]], reasons, np.concatenate(found, 1)
            )
            advance(len(reasons))
    return predictions


def _blocks(rows: int, width: int) -> Iterator[slice]:
    step = max(1, _BLOCK_VALUES // max(1, width))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def _parts(run: Run, features: Any) -> list[tuple[str, NDArray[Any], Any]]:
    """Return each layer in the order in which the head reads them: its key, its features, and their number format."""
    layers = joined_layers(run.layer)
    widths = [next(x.dim for x in run.caches[index].spec.layers if x.key == key) for index, key in layers]
    kinds = [run.caches[index].spec.dtype for index, _ in layers]
    keys = layer_keys(run.layer)
    if isinstance(features, Mapping):
        if {*features} != {*keys}:
            raise OptionError(
                f"features: got {', '.join(map(str, features)) or 'no layer'}, expected the layers {', '.join(keys)} of"
                f" {run.path}"
            )
        arrays = [_array(features[key], f"features: {key}") for key in keys]
    else:
        whole = _array(features, "features")
        if whole.ndim != 2 or whole.shape[1] != sum(widths):
            raise OptionError(
                f"features: got an array of shape {whole.shape}, expected (n, {sum(widths)}), as the head of {run.path} reads"
            )
        arrays = np.split(whole, np.cumsum(widths)[:-1], axis=1)
    for key, array, width in zip(keys, arrays, widths, strict=True):
        if array.ndim != 2 or array.shape[1] != width or len(array) != len(arrays[0]):
            raise OptionError(
                f"features: {key}: got shape {array.shape}, expected ({len(arrays[0])}, {width})"
            )
    return list(zip(keys, arrays, kinds, strict=True))


def _array(features: Any, where: str) -> NDArray[Any]:
    """Return what was passed as an array of numbers."""
    try:
        plain, dtype = plain_array(features, where)
    except VectorsError as error:
        raise OptionError(str(error)) from None
    if plain is None:  # such as a data frame
        plain = np.asarray(features)
        dtype = plain.dtype.name
    array = from_bits(plain, dtype)
    if array.dtype.kind not in "iuf":
        got = type(features).__name__ if array.dtype.kind == "O" and not array.ndim else array.dtype
        raise OptionError(f"{where}: got {got}, expected an (n, d) array of numbers")
    return array
