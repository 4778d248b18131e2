"""Default path of a cache."""

import re
from pathlib import Path


def default_cache_path(data: str | Path, backbone: str, limit: int | None = None) -> Path:
    """Return ``DATA.BACKBONE.h5`` in the current folder, or ``DATA.BACKBONE.LIMIT.h5`` for a limited extraction."""
    data = Path(data).resolve()
    name = data.name if data.is_dir() else data.stem
    parts = [name, backbone, *([str(limit)] if limit is not None else [])]
    return Path(re.sub(r"[^\w.-]+", "-", ".".join(parts)) + ".h5")
