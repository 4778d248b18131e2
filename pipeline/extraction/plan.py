"""The dry run of the extract stage: what would be read, without computing anything."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from frostline.features.sources import Images, SourceSummary
from frostline.features.table import ImageSource, ImageTable
from frostline.pipeline.extraction.defaults import cache_path
from frostline.pipeline.inputs.sources import opened_source, summary_of
from frostline.pipeline.options.extraction import ExtractOptions
from frostline.pipeline.options.stage import stage
from frostline.splits import SPLITS


@dataclass(frozen=True)
class ExtractionPlan:
    """Images that an extraction would read.

    Attributes:
        found: Summary of the data: the images found and the entries skipped.
        counts: Number of images by split, "" for none, of each class.
        cache: Path of the cache.
        exists: Whether the cache exists.
    """

    found: SourceSummary
    counts: Mapping[str, Mapping[str, int]]
    cache: Path
    exists: bool


@stage(ExtractOptions)
def plan_extraction(data: str | Path | ImageSource | Images, options: ExtractOptions) -> ExtractionPlan:
    """List what `extract` would read. No image is opened, no network is loaded, and nothing is written.

    Args:
        data: Path of the images, see `frostline.features.sources.open_source`; any other image source; or the images
            themselves, see `frostline.features.sources.images_source`.
        options: Options of the extraction.

    Raises:
        SourceError: The images can't be listed.
    """
    with opened_source(data, options) as source:
        found = summary_of(source, options.report)
        path = cache_path(source.root, options)
        return ExtractionPlan(found, _counts(source.table), path, path.exists())


def _counts(table: ImageTable) -> dict[str, dict[str, int]]:
    labelled = table.labels >= 0
    cells = np.zeros((len(table.classes), len(SPLITS)), np.int64)
    np.add.at(cells, (table.labels[labelled], table.split[labelled]), 1)
    return {
        name: {split: count for split, count in zip(SPLITS, row, strict=True) if count}
        for name, row in zip(table.classes, cells.tolist(), strict=True)
    }
