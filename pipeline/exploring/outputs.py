"""Tables and sheets of thumbnails that the stages of this room write."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frostline.errors import OptionError
from frostline.features.cache import FeatureCache
from frostline.features.sources import find_kind
from frostline.pipeline.drawing.attempts import attempted, drawn
from frostline.pipeline.drawing.sheets import MOST_TILES, MOST_TILES_OF_A_PAGE, Strip, plot_sheet, write_page
from frostline.pipeline.drawing.tables import write_table
from frostline.pipeline.inputs.joined_caches import AnyCache, members
from frostline.pipeline.progress import Reporter
from frostline.system.files import resolved


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
        columns: Sequence[str],
        title: str,
        remark: Callable[[], str],
        report: Reporter,
    ) -> "Outputs":
        """Write the files, first the table, and return those that were written.

        Args:
            rows: Rows of the table. Without any, the table has a heading only, and the sheets say that there is nothing.
            strips: Function that returns the strips of the sheets; it is called only if there is one.
            columns: Names of the columns of the table.
            title: Title of the sheets.
            remark: Function that returns a sentence below the title.
            report: Receiver of warnings about sheets that can't be drawn.
        """
        if self.table:
            write_table(rows, self.table, columns)
        if not self.tiles:
            return self
        shown = attempted("the thumbnails", strips, report)
        if shown is None:
            return Outputs(self.table)
        shown = shown or [Strip("Nothing was found.", ())]
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


def check_apart(cache: AnyCache, outputs: Outputs, **others: Path | None) -> None:
    """Check that no output replaces another one, the cache, its manifest or one of its images.

    Args:
        cache: The cache.
        outputs: Outputs that the option ``out`` named.
        others: Further outputs, by the name of their option.

    Raises:
        OptionError: One would.
    """
    places = [("out", each) for each in (outputs.table, outputs.picture, outputs.page)]
    seen: set[Path] = set()
    for option, path in [*places, *others.items()]:
        if path is None:
            continue
        place = resolved(path)
        if place in seen:
            raise OptionError(f"{option}: {path} is another output too; choose another name")
        seen.add(place)
        for each in members(cache):
            if place == resolved(each.path):
                raise OptionError(f"{option}: {path} is the cache itself; choose another name")
            if place == Path(each.source):
                raise OptionError(
                    f"{option}: {path} is the manifest that {each.path} was extracted from; choose another name"
                )
            if place.is_file() and _is_image(each, place):
                raise OptionError(
                    f"{option}: {path} is one of the images of {each.path}; choose another name"
                )


def _is_image(cache: FeatureCache, place: Path) -> bool:
    """Return whether a path is that of an image of a cache."""
    kind = find_kind(cache.source)
    if kind is None or kind.locate is None:
        return False
    alike = (name for name in cache.ids.tolist() if name.rpartition("/")[2] == place.name)
    found = (kind.locate(cache.source, name) for name in alike)
    return any(isinstance(each, Path) and resolved(each) == place for each in found)


def label_of(cache: FeatureCache, row: int) -> str:
    """Return the class of a row; empty if unknown."""
    label = int(cache.labels[row])
    return cache.classes[label] if label >= 0 else ""
