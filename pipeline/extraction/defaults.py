"""Default path of a cache."""

import re
from pathlib import Path

from frostline.features.sources import source_name
from frostline.features.sources.remote.urls import is_url
from frostline.pipeline.options.extraction import ExtractOptions
from frostline.system.files import resolved


def default_cache_path(data: str | Path, backbone: str, limit: int | None = None) -> Path:
    """Return ``DATA.BACKBONE.h5`` in the current folder, or ``DATA.BACKBONE.LIMIT.h5`` for a limited extraction."""
    parts = [
        source_name(data if is_url(data) else resolved(data)),
        backbone,
        *([str(limit)] if limit is not None else []),
    ]
    return Path(re.sub(r"[^\w.-]+", "-", ".".join(parts)) + ".h5")


def cache_path(data: str, options: ExtractOptions) -> Path:
    """Return the path of the cache that the options name, or the default path."""
    return Path(options.cache or default_cache_path(data, options.backbone, options.limit))
