"""The images behind a cache's rows, small, for pictures."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.caches import AnyCache

__all__ = ["draw_thumbnail", "image_file"]

_SIDE = 256


def image_file(cache: AnyCache, row: int) -> Path:
    """Where the image of a row lay when it was extracted."""
    source = Path(cache.source)
    return (source if source.is_dir() else source.parent) / str(cache.ids[row])


def draw_thumbnail(axes: Any, path: Path, title: str) -> None:
    """Draw an image, upright, into matplotlib axes; words in its place where it can't be read any more."""
    axes.axis("off")
    try:
        with Image.open(path) as image:
            picture = ImageOps.exif_transpose(image).convert("RGB")
            picture.thumbnail((_SIDE, _SIDE))
            axes.imshow(np.asarray(picture))
    except (OSError, UnidentifiedImageError):
        axes.text(0.5, 0.5, "(image gone)", ha="center", va="center")
    axes.set_title(title, fontsize=9, wrap=True)
