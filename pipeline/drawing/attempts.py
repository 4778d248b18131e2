"""Pictures are extras: one that can't be drawn costs a warning, and never a result."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from frostline.pipeline.progress import Reporter

T = TypeVar("T")


def drawn(
    path: Path, draw: Callable[[Path], None], report: Reporter, *, place: Path | None = None
) -> Path | None:
    """Draw a picture and return its path; if it can't be drawn, warn and return None.

    An earlier picture at the path is removed first, so that it is never taken for the new one. Call this after all
    numbers are on disk.

    Args:
        path: Path of the picture.
        draw: Function that draws it to the path.
        report: Receiver of the warning.
        place: Folder that will hold the picture, if that of `path` is renamed later.
    """

    def redraw() -> Path:
        from matplotlib import style

        path.unlink(missing_ok=True)
        with style.context("default"):  # whatever a file matplotlibrc in the current folder sets, such as TeX
            draw(path)
        return path

    return attempted(str(place / path.name if place else path), redraw, report)


def attempted(what: str, draw: Callable[[], T], report: Reporter) -> T | None:
    """Draw something and return what `draw` returns; if it fails, warn in one line and return None.

    Args:
        what: What is drawn, for the warning.
        draw: Function that draws it.
        report: Receiver of the warning.
    """
    try:
        return draw()
    except Exception as error:  # noqa: BLE001  # fonts, images and libraries fail in any way
        reason = " ".join(str(error).split()) or type(error).__name__
        report.warn(f"{what} could not be drawn: {reason[:200]}. All numbers are complete.")
        return None
