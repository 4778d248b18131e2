"""Features of new images, computed in the same way as existing ones."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.features.backbones import Backbone
from frostline.features.cache.contract import Provenance
from frostline.features.cache.file.encoding import decode, encode
from frostline.features.engines import Engine
from frostline.features.images.batches import Batch, load_batches
from frostline.features.images.decoders import decoder_of
from frostline.features.spec import Dtype
from frostline.features.table import ImageSource
from frostline.pipeline.extraction.engine_choice import engine_like
from frostline.pipeline.options.extraction import CacheOptions, EngineOptions

_BATCH_SIZE = 32


def new_computation(options: EngineOptions, images: int) -> CacheOptions:
    """Return the options of the computation of new images, with a batch size for their number."""
    return CacheOptions.of(
        options, batch_size=options.batch_size or min(images, _BATCH_SIZE), report=options.report
    )


def new_features(
    source: ImageSource,
    existing: Provenance,
    net: Backbone,
    keys: Sequence[str],
    options: CacheOptions,
) -> Iterator[tuple[Batch, dict[str, NDArray[Any]]]]:
    """Build the engine; return an iterator over batches and their (k, dim) features by layer.

    Features are those of the unaugmented images, rounded to the number format of the existing ones. Rows of
    unreadable images are not valid; see `Batch.status`.

    Args:
        source: The new images.
        existing: How the existing features were computed.
        net: Their backbone, with their transform.
        keys: Keys of the layers.
        options: Options of the user; see `frostline.pipeline.extraction.engine_choice.engine_like`.

    Raises:
        EngineError: The engine is not available here, and no check shows that another one agrees with it.
    """
    spec = existing.spec
    options = dataclasses.replace(options, decoder=decoder_of(spec.decoder))
    by_key = {layer.key: layer for layer in spec.layers}
    layers = tuple(by_key[key] for key in keys)
    engine = engine_like(existing, net, layers, source, options)
    batches = load_batches(
        source,
        np.arange(len(source.table.ids)),
        net.transform,
        batch_size=engine.batch_size,
        workers=options.workers,
        block_rows=engine.batch_size,
        decoder=options.decoder,
    )
    return _rounded(engine, batches, spec.dtype)


def _rounded(
    engine: Engine, batches: Iterator[Batch], dtype: Dtype
) -> Iterator[tuple[Batch, dict[str, NDArray[Any]]]]:
    for batch, outputs in engine.run(batches):
        yield (
            batch,
            {key: decode(encode(found[:, 0], dtype), dtype) for key, found in outputs.items()},
        )
