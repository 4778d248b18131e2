"""The images behind a cache's rows, small, for pictures."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from frostline.pipeline.inputs.joined_caches import AnyCache

_SIDE = 256


def image_file(cache: AnyCache, row: int) -> Path:
    """Where the image of a row lay when it was extracted."""
    source = Path(cache.source)
    return (source if source.is_dir() else source.parent) / str(cache.ids[row])


def load_thumbnail(path: Path, side: int) -> Image.Image | None:
    """An image, upright, in RGB, no side longer than `side` pixels; None where it can't be read any more."""
    try:
        with Image.open(path) as image:
            picture = ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, UnidentifiedImageError):
        return None
    picture.thumbnail((side, side))
    return picture


def draw_thumbnail(axes: Any, path: Path, title: str) -> None:
    """Draw an image, upright, into matplotlib axes; words in its place where it can't be read any more."""
    axes.axis("off")
    picture = load_thumbnail(path, _SIDE)
    if picture:
        axes.imshow(np.asarray(picture))
    else:
        axes.text(0.5, 0.5, "(image not found)", ha="center", va="center")
    axes.set_title(title, fontsize=9, wrap=True)
