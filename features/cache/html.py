"""A cache as HTML, for notebooks: what it holds, its classes, and a few thumbnails."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from frostline.escapes import visible
from frostline.features.errors import FeaturesError
from frostline.features.images.thumbnails import data_uri, open_pictures
from frostline.splits import SPLIT_NAMES

if TYPE_CHECKING:
    from frostline.features.cache.reader import FeatureCache

_TILES = 8
_SIDE = 96  # longest side of a thumbnail in pixels
_CLASSES = 20
_BOX = f"width:{_SIDE}px;height:{_SIDE}px;display:flex;align-items:center;justify-content:center;background:#8882"
_CUT = f"width:{_SIDE}px;overflow:hidden;white-space:nowrap;text-overflow:ellipsis;font-size:80%"


def cache_html(cache: "FeatureCache") -> str:
    """Return HTML that shows a cache; what can't be read is named there, and nothing is raised."""
    try:
        known = cache.rows
    except ValueError:  # the cache was closed
        return f"<pre>{text(repr(cache))}</pre>"
    try:
        ok = int(cache.ok.sum())
        facts = {
            "images": f"{known:,}" + (f", of which {known - ok:,} have no features" if ok < known else ""),
            "splits": counted(
                dict(zip(SPLIT_NAMES, np.bincount(cache.split, minlength=4).tolist(), strict=True))
            ),
            "classes": class_counts(cache.labels, cache.classes),
            "layers": ", ".join(f"{layer.key} ({layer.dim})" for layer in cache.layers),
            "numbers": cache.spec.dtype,
            "backbone": cache.spec.backbone,
            "engine": f"{cache.spec.engine}, {cache.spec.precision}, {cache.spec.device}",
            "source": cache.source,
            "key": cache.key[:16],
        }
        tiles, remark = thumbnails(cache)
    except (FeaturesError, OSError) as error:
        facts, tiles, remark = {"images": f"{known:,}"}, [], str(error)
    return page(f"FeatureCache {cache.path.name}", facts, tiles, remark)


def page(title: str, facts: Mapping[str, str], tiles: Iterable[str], remark: str) -> str:
    """Return HTML with a title, a table of facts, tiles, and a remark; all texts but the tiles are escaped."""
    rows = "".join(f"<tr><th style='text-align:left'>{text(name)}</th><td style='text-align:left'>{text(value)}</td></tr>"
                   for name, value in facts.items() if value)  # fmt: skip
    shown = "".join(tiles)
    return (
        f"<div><strong>{text(title)}</strong><table>{rows}</table>"
        + (f"<div style='display:flex;flex-wrap:wrap;gap:6px'>{shown}</div>" if shown else "")
        + (f"<p><small>{text(remark)}</small></p>" if remark else "")
        + "</div>"
    )


def text(value: str) -> str:
    """Return a text for HTML, with control characters as escapes."""
    return escape(visible(value))


def counted(counts: Mapping[str, int]) -> str:
    """Return counts above 0 as ``60 train, 20 val``."""
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)


def class_counts(labels: NDArray[np.int64], classes: Sequence[str]) -> str:
    """Return the number of images of each class, of the first classes if there are many."""
    counts = np.bincount(labels[labels >= 0], minlength=len(classes)).tolist()
    shown = [f"{name} ({count:,})" for name, count in zip(classes, counts, strict=True)][:_CLASSES]
    more = [f"and {len(classes) - _CLASSES:,} more"] if len(classes) > _CLASSES else []
    unknown = int((labels < 0).sum())
    return ", ".join([*shown, *more, *([f"{unknown:,} without label"] if unknown else [])])


def thumbnails(cache: "FeatureCache") -> tuple[list[str], str]:
    """Return HTML tiles of a few images, of different classes if possible, and why there are none.

    An image that can't be read is an empty tile. A source that would have to be listed, such as an archive, is not
    opened.
    """
    with open_pictures(cache, cache.spec, cache.notes.options, listing=False) as pictures:
        if pictures.obstacle:
            return [], pictures.obstacle
        tiles = []
        for row in _shown_rows(cache).tolist():
            name, picture = pictures.thumbnail(row, _SIDE)
            label = int(cache.labels[row])
            inner = f"<img src='{data_uri(picture)}' alt=''>" if picture else ""
            caption = cache.classes[label] if label >= 0 else name
            tiles.append(
                f"<div title='{text(name)}'><div style='{_BOX}'>{inner}</div><div style='{_CUT}'>{text(caption)}</div></div>"
            )
        return tiles, ""


def _shown_rows(cache: "FeatureCache") -> NDArray[np.int64]:
    """Return the first row of each of the first classes, or rows at equal distances if there are fewer classes."""
    _, first = np.unique(cache.labels, return_index=True)
    if len(first) >= _TILES:
        return np.sort(first[:_TILES])
    return np.unique(np.linspace(0, cache.rows - 1, min(_TILES, cache.rows)).astype(np.int64))
