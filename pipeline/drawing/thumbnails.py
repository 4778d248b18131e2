"""Thumbnails of the images of a cache, for plots and reports."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from frostline.pipeline.inputs.joined_caches import AnyCache

_SIDE = 256


def image_file(cache: AnyCache, row: int) -> Path:
    """Return the path of the image of a row at the time of extraction."""
    source = Path(cache.source)
    return (source if source.is_dir() else source.parent) / str(cache.ids[row])


def load_thumbnail(path: Path, side: int) -> Image.Image | None:
    """Return an upright RGB image with sides of at most `side` pixels; None if the file can't be read."""
    try:
        with Image.open(path) as image:
            picture = ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, UnidentifiedImageError):
        return None
    picture.thumbnail((side, side))
    return picture


def draw_thumbnail(axes: Any, path: Path, title: str) -> None:
    """Draw an upright image into matplotlib axes, or a placeholder text if the file can't be read."""
    axes.axis("off")
    picture = load_thumbnail(path, _SIDE)
    if picture:
        axes.imshow(np.asarray(picture))
    else:
        axes.text(0.5, 0.5, "(image not found)", ha="center", va="center")
    axes.set_title(title, fontsize=9, wrap=True)
