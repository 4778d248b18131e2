"""The HTML page of a map: one file with its data, thumbnails, style and script."""

import base64
import datetime
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.escapes import visible
from frostline.pipeline.drawing.sheets import page_style
from frostline.system.atomic import replace_file

_FOLDER = Path(__file__).parent
_DIGITS = 5  # of a coordinate, which is 0 to 1 across the longer side of the map


@dataclass(frozen=True, eq=False)
class Colouring:
    """A property of the images by which a map can be coloured.

    Attributes:
        name: What it is, such as ``class``.
        values: Names of its values.
        codes: (n,) index into `values` of each image; negative for none.
        none: Name of having no value.
    """

    name: str
    values: Sequence[str]
    codes: NDArray[np.integer[Any]]
    none: str


@dataclass(frozen=True, eq=False)
class Contents:
    """Contents of the page.

    Attributes:
        names: Names of the n images.
        points: (n, 2) coordinates.
        axes: Titles of the axes.
        colourings: Properties to colour by; the first is shown first.
        predictions: Predicted class and its probability of each image, "" and None without one; None for no run.
        tiles: Thumbnail of each image as WebP in base64, empty for none.
        remarks: Sentences below the title.
    """

    names: Sequence[str]
    points: NDArray[np.float64]
    axes: tuple[str, str]
    colourings: Sequence[Colouring]
    predictions: Sequence[tuple[str, float | None]] | None
    tiles: Sequence[str]
    remarks: Sequence[str]


def write_map_page(path: Path, contents: Contents, *, title: str, facts: Sequence[str]) -> None:
    """Write the page.

    Its content security policy names the digests of its own style and script, and allows nothing else but images in the
    file itself. All names are data that the script shows as text.

    Args:
        path: File to write.
        contents: What is shown.
        title: Title of the page.
        facts: Sentences on the data; empty ones are left out.
    """
    style = page_style() + (_FOLDER / "page.css").read_text("utf-8")
    script = (_FOLDER / "page.js").read_text("utf-8")
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src data:"
    )
    made = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    colours = "".join(
        f'<option value="{number}">{_text(each.name)}</option>'
        for number, each in enumerate(contents.colourings)
    )
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<link rel="icon" href="data:,">
<title>{_text(title)}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{_text(title)}</h1>
<details class="facts"><summary>{_text(facts[0])}</summary>
{"".join(f"<p>{_text(fact)}</p>" for fact in facts[1:] if fact)}
<p>Made {made} with Frostline.</p></details>
</header>
<main>
<div id="stage">
<canvas id="map" tabindex="0" role="application" aria-label="Map of {len(contents.names)} images. Arrow keys move it, plus and minus zoom, 0 shows all, Enter selects the image nearest to the centre, Escape deselects." aria-describedby="keys"></canvas>
<div id="zoom"><button type="button" data-zoom="1.6" aria-label="Zoom in">+</button><button type="button" data-zoom="0.625" aria-label="Zoom out">&minus;</button><button type="button" data-zoom="0" aria-label="Show all">Fit</button></div>
<p id="axes" class="hint"><bdi>{_text(contents.axes[0])}</bdi> &rarr; &nbsp; <bdi>{_text(contents.axes[1])}</bdi> &uarr;</p>
<div id="card" hidden></div>
</div>
<div id="side">
<label class="field">Colour by <select id="colour">{colours}</select></label>
<div class="field"><label for="search">Find by name</label><input id="search" type="search" autocomplete="off" spellcheck="false"><p id="count" class="hint" aria-live="polite"></p><ol id="found"></ol></div>
<section id="detail" aria-live="polite" aria-label="Selected image" hidden></section>
<section aria-labelledby="legend-title">
<h2 id="legend-title">Legend</h2>
<p id="legend-buttons"><button type="button" id="all">All</button><button type="button" id="none">None</button></p>
<ul id="legend"></ul>
</section>
<p id="keys" class="hint">Drag to move, turn the wheel or pinch to zoom, select a point to keep it. In the map: arrow keys, + and &minus;, 0 to show all, Enter to select, Escape.</p>
</div>
</main>
<noscript><p>The map needs JavaScript. The names are in the source of this page.</p></noscript>
<script type="application/json" id="data">{_data(contents)}</script>
<script>{script}</script>
</body>
</html>
"""
    replace_file(path, page.encode(errors="replace"))


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _text(text: str) -> str:
    return escape(visible(text))


def _data(contents: Contents) -> str:
    """Return the data as JSON that is safe in a script element, which would end at the first ``</script``."""
    predicted = sorted({each for each, _ in contents.predictions or () if each})
    number = {name: index for index, name in enumerate(predicted)}
    x, y = _placed(contents.points)
    data = {
        "names": [visible(name) for name in contents.names],
        "x": x,
        "y": y,
        "colourings": [
            {
                "name": each.name,
                "values": [visible(value) for value in each.values],
                "codes": np.maximum(each.codes, -1).tolist(),
                "none": each.none,
            }
            for each in contents.colourings
        ],
        "predictions": contents.predictions
        and {
            "values": [visible(name) for name in predicted],
            "codes": [number.get(name, -1) for name, _ in contents.predictions],
            "shares": [None if share is None else round(share, 4) for _, share in contents.predictions],
        },
        "tiles": list(contents.tiles) if any(contents.tiles) else [],
    }
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _placed(points: NDArray[np.float64]) -> tuple[list[float], list[float]]:
    """Return coordinates from 0 to 1 across the longer side, with the centre at 0.5; the vertical ones point down."""
    low, high = points.min(axis=0), points.max(axis=0)
    span = float((high - low).max()) or 1.0
    placed = np.round((points - (low + high) / 2) / span + 0.5, _DIGITS)
    return placed[:, 0].tolist(), np.round(1 - placed[:, 1], _DIGITS).tolist()
