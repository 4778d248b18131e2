"""Tables and sheets of thumbnails that the stages of this room write."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frostline.errors import OptionError
from frostline.features.cache import FeatureCache
from frostline.pipeline.drawing.attempts import attempted, drawn
from frostline.pipeline.drawing.sheets import MOST_TILES, MOST_TILES_OF_A_PAGE, Strip, plot_sheet, write_page
from frostline.pipeline.drawing.tables import write_table
from frostline.pipeline.progress import Reporter


@dataclass(frozen=True)
class Outputs:
    """Files that a stage writes; None for one that was not asked for.

    Attributes:
        table: CSV file.
        picture: Contact sheet, PNG.
        page: HTML page.
    """

    table: Path | None = None
    picture: Path | None = None
    page: Path | None = None

    @classmethod
    def at(cls, out: str | Path | None, name: str) -> "Outputs":
        """Return the files for a value of ``--out``: the file that it names, or all three in a folder.

        Args:
            out: Path of a ``.csv``, ``.png`` or ``.html`` file, or of a folder; None for nothing.
            name: Name of the files in a folder, without an ending.

        Raises:
            OptionError: The path ends like another kind of file.
        """
        if out is None:
            return cls()
        path = Path(out)
        kinds = {".csv": "table", ".png": "picture", ".html": "page"}
        if path.suffix.lower() in kinds and not path.is_dir():
            return cls(**{kinds[path.suffix.lower()]: path})
        if path.is_file() or (path.suffix and not path.is_dir()):
            raise OptionError(
                f"out: got {str(path)!r}, expected a folder, or a file ending in .csv, .png or .html"
            )
        return cls(*(path / f"{name}{suffix}" for suffix in kinds))

    @property
    def tiles(self) -> int:
        """Number of thumbnails that the sheets can show; 0 without one."""
        return MOST_TILES_OF_A_PAGE if self.page else MOST_TILES if self.picture else 0

    def write(
        self,
        rows: Sequence[Mapping[str, Any]],
        strips: Callable[[], Sequence[Strip]],
        *,
        title: str,
        remark: Callable[[], str],
        report: Reporter,
    ) -> "Outputs":
        """Write the files, first the table, and return those that were written.

        Args:
            rows: Rows of the table. Nothing is written without any.
            strips: Function that returns the strips of the sheets; it is called only if there is one.
            title: Title of the sheets.
            remark: Function that returns a sentence below the title.
            report: Receiver of warnings about sheets that can't be drawn.
        """
        if not rows:
            return Outputs()
        if self.table:
            write_table(rows, self.table)
        if not self.tiles:
            return self
        shown = attempted("the thumbnails", strips, report)
        if shown is None:
            return Outputs(self.table)
        picture = page = None
        if self.picture:
            picture = drawn(
                self.picture, lambda path: plot_sheet(shown, path, title=title, remark=remark()), report
            )
        if self.page:
            page = drawn(
                self.page, lambda path: write_page(shown, path, title=title, remark=remark()), report
            )
        return Outputs(self.table, picture, page)


def label_of(cache: FeatureCache, row: int) -> str:
    """Return the class of a row; empty if unknown."""
    label = int(cache.labels[row])
    return cache.classes[label] if label >= 0 else ""
