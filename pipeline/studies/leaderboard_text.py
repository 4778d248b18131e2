"""Text formats of a leaderboard: table cells, CSV and Markdown."""

from collections.abc import Sequence
from typing import Any

from frostline.pipeline.studies.leaderboard import COLUMNS, Leaderboard, Place

ACCURACIES = ("run", "validation", "test", "pvalue", "front")
"""Keys of the accuracy columns."""

_COSTS = (
    "parameters",
    "gflops",
    "width",
    "extraction_seconds",
    "images_per_second",
    "joules",
    "training_seconds",
    "total_seconds",
    "cache_bytes",
)
_UNKNOWN = "-"


def known_costs(board: Leaderboard) -> tuple[str, ...]:
    """Return the keys of the cost columns that are known for at least one run."""
    return tuple(
        key for key in _COSTS if any(COLUMNS[key].value(place) is not None for place in board.places)
    )


def as_cells(board: Leaderboard, keys: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Return headings and one row of cells per run; accuracies include their intervals."""
    return [COLUMNS[key].title for key in keys], [
        [cell(place, key) for key in keys] for place in board.places
    ]


def cell(place: Place, key: str) -> str:
    """Format one value of a run: an accuracy with its interval, ``-`` for an unknown value."""
    value = COLUMNS[key].value(place)
    if key == "pvalue" and place.is_best:
        return "best"
    if value is None or value == "":
        return _UNKNOWN
    text = COLUMNS[key].text
    if f"{key}_low" not in COLUMNS:
        return text(value)
    low, high = (COLUMNS[f"{key}_{end}"].value(place) for end in ("low", "high"))
    return f"{value * 100:.2f} % ({low * 100:.1f} - {high * 100:.1f})"


def as_csv(board: Leaderboard) -> tuple[list[str], list[list[Any]]]:
    """Return the names of all columns and one row of unformatted values per run; None for unknown ones."""
    return list(COLUMNS), [[record[name] for name in COLUMNS] for record in board.records()]


def as_markdown(board: Leaderboard) -> str:
    """Return a Markdown table followed by the notes."""
    headings, rows = as_cells(board, (*ACCURACIES, *known_costs(board)))
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join([*map(_line, lines), "", *board.notes, ""])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
