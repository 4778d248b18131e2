"""Sheets of thumbnails to look at: a contact sheet as PNG, or an HTML page in one file that needs no network."""

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from frostline.escapes import visible
from frostline.features.images.thumbnails import Thumbnail, data_uri
from frostline.pipeline.drawing.lettering import legible, save
from frostline.system.atomic import replace_file

SHEET_SIDE = 160
"""Longest side of a thumbnail in a sheet, in pixels."""
MOST_TILES = 240
"""Largest number of tiles in a contact sheet; the rest is left out, and the sheet says so."""
MOST_TILES_OF_A_PAGE = 2000
"""Largest number of tiles in an HTML page."""

_COLUMNS = 8
_TILE = 1.5  # inches
_LINE = 0.14  # height of a line of a caption, in tiles
_NAME = 26  # characters of a line of a caption
_LINE_FEED = "\n"  # of a remark of several lines; that of a name is shown
_FOLDER = Path(__file__).parent
_STYLE = """
main { display: flex; flex-wrap: wrap; column-gap: 1.6rem; align-items: flex-start; }
section { width: min(100%, calc(var(--tiles) * 9.8rem)); }
section h2 { font-size: 1rem; margin-top: 1.6rem; overflow-wrap: anywhere; }
.tiles { list-style: none; margin: .6rem 0 0; padding: 0; display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); font-size: .8rem; line-height: 1.3; }
.tiles li { display: flex; flex-direction: column; overflow-wrap: anywhere; break-inside: avoid; padding: .3rem; border: 2px solid transparent; border-radius: .4rem; }
.tiles .marked { border-color: var(--accent); background: var(--mark); }
.tiles img, .gone { width: 100%; height: 8.5rem; object-fit: contain; margin-bottom: .3rem; background: var(--raised); border-radius: .25rem; }
.gone { display: grid; place-items: center; text-align: center; color: var(--soft); }
.tiles span + span { color: var(--soft); }
.tiles .gone + span { color: inherit; }
"""


@dataclass(frozen=True)
class Tile:
    """A thumbnail with its caption.

    Attributes:
        thumbnail: The image.
        lines: Lines of the caption below its name.
        marked: Whether it is set apart, such as the query among its neighbours.
    """

    thumbnail: Thumbnail
    lines: tuple[str, ...] = ()
    marked: bool = False


@dataclass(frozen=True)
class Strip:
    """Tiles under a common title, such as a query and its neighbours."""

    title: str
    tiles: Sequence[Tile]


def page_style() -> str:
    """Return the style that all HTML pages share."""
    return (_FOLDER / "page.css").read_text("utf-8")


def write_page(strips: Sequence[Strip], path: Path, *, title: str, remark: str = "") -> None:
    """Write an HTML page with a section for each strip.

    Args:
        strips: The strips.
        path: File to write.
        title: Title of the page.
        remark: Sentence below the title.
    """
    shown, left_out = limited_tiles(strips, MOST_TILES_OF_A_PAGE)
    made = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">",
        f'<link rel="icon" href="data:,">\n<title>{_text(title)}</title>\n<style>{page_style()}{_STYLE}</style>',
        f"</head>\n<body>\n<header>\n<h1>{_text(title)}</h1>",
        *(
            f'<p class="hint">{escape(visible(text, keep=_LINE_FEED))}</p>'
            for text in (remark, left_out)
            if text
        ),
        f'<p class="made">Made {made} with Frostline.</p>\n</header>\n<main>',
        *(line for strip in shown for line in _section(strip)),
        "</main>\n</body>\n</html>\n",
    ]
    replace_file(path, "\n".join(parts).encode(errors="replace"))


def _section(strip: Strip) -> Iterator[str]:
    tiles = f"--tiles:{max(2, min(len(strip.tiles), _COLUMNS))}"
    yield f'<section style="{tiles}">\n<h2>{_text(strip.title)}</h2>\n<ul class="tiles">'
    for tile in strip.tiles:
        name, picture = _text(tile.thumbnail.name), tile.thumbnail.picture
        image = (
            '<span class="gone">no picture</span>'
            if picture is None
            else f'<img src="{data_uri(picture)}" alt="{name}" title="{name}">'
        )
        lines = "".join(
            f"<span><bdi>{_text(line)}</bdi></span>" for line in (tile.thumbnail.name, *tile.lines)
        )
        yield f"<li class={'marked' if tile.marked else 'plain'}>{image}{lines}</li>"
    yield "</ul>\n</section>"


def _text(text: str) -> str:
    return escape(visible(text))


def plot_sheet(strips: Sequence[Strip], path: Path, *, title: str, remark: str = "") -> None:
    """Plot a contact sheet with eight tiles per line. Short strips stand side by side.

    Args:
        strips: The strips.
        path: PNG file to write.
        title: Title of the sheet.
        remark: Sentence below the title.
    """
    shown, left_out = limited_tiles(strips, MOST_TILES)
    heads = [legible(text, None) for text in (title, remark, left_out) if text]
    lines = _side_by_side(shown)
    height = 0.25 * len(heads) + sum(max(map(_height, line)) for line in lines)
    figure = Figure(figsize=(_COLUMNS * _TILE, max(height, 1) * _TILE))
    axes: Any = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    y = 0.0
    for number, text in enumerate(heads):
        axes.text(0.05, y + 0.17, text, fontsize=8 if number else 12, va="center")
        y += 0.25
    for line in lines:
        x = 0
        for strip in line:
            _draw_strip(axes, strip, x, y)
            x += len(strip.tiles)
        y += max(map(_height, line))
    axes.set(xlim=(0, _COLUMNS), ylim=(max(height, 1), 0))
    save(figure, path)


def _side_by_side(strips: Sequence[Strip]) -> list[list[Strip]]:
    """Return the strips line by line; a line has strips of at most eight tiles in all, or one strip of more."""
    lines: list[list[Strip]] = []
    for strip in strips:
        if lines and sum(len(each.tiles) for each in lines[-1]) + len(strip.tiles) <= _COLUMNS:
            lines[-1].append(strip)
        else:
            lines.append([strip])
    return lines


def _draw_strip(axes: Any, strip: Strip, x: int, y: float) -> None:
    longest = 13 * min(max(len(strip.tiles), 1), _COLUMNS)
    axes.text(x + 0.05, y + 0.2, legible(strip.title, longest), fontsize=9, va="center", fontweight="bold")
    lines = _lines(strip)
    for place, tile in enumerate(strip.tiles):
        row, column = divmod(place, _COLUMNS)
        _draw_tile(axes, tile, x + column, y + 0.32 + row * (1 + lines * _LINE), lines)


def _lines(strip: Strip) -> int:
    return 1 + max((len(tile.lines) for tile in strip.tiles), default=0)


def _height(strip: Strip) -> float:
    return 0.4 + -(-len(strip.tiles) // _COLUMNS) * (1 + _lines(strip) * _LINE)


def _draw_tile(axes: Any, tile: Tile, x: float, y: float, lines: int) -> None:
    picture = tile.thumbnail.picture
    if picture is None:
        axes.text(x + 0.5, y + 0.5, "(no picture)", ha="center", va="center", fontsize=7)
    else:
        scale = 0.92 / max(picture.size)
        half_width, half_height = (side * scale / 2 for side in picture.size)
        extent = (x + 0.5 - half_width, x + 0.5 + half_width, y + 0.5 + half_height, y + 0.5 - half_height)
        axes.imshow(np.asarray(picture), extent=extent, aspect="auto")
    for number, line in enumerate((tile.thumbnail.name, *tile.lines)):
        axes.text(
            x + 0.5,
            y + 1 + _LINE * (number + 0.4),
            legible(line, _NAME),
            ha="center",
            va="center",
            fontsize=6.5,
            color="#57606a" if number else "black",
        )
    if tile.marked:
        size = (0.98, 1 + lines * _LINE - 0.01)
        axes.add_patch(Rectangle((x + 0.01, y), *size, fill=False, edgecolor="#1f5fbf", linewidth=1.6))


def limited_tiles(strips: Sequence[Strip], most: int) -> tuple[list[Strip], str]:
    """Return the strips with at most a number of tiles in all, and a sentence on what is left out, if anything is."""
    shown: list[Strip] = []
    left = most
    for strip in strips:
        if left <= 0:
            break
        shown.append(Strip(strip.title, strip.tiles[:left]))
        left -= len(strip.tiles)
    whole = sum(len(strip.tiles) for strip in strips)
    return shown, f"The first {most:,} of {whole:,} pictures are shown." if whole > most else ""
