"""Data sets of Hugging Face by name: ``hf:NAME``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from frostline.errors import one_line
from frostline.features.errors import SourceError
from frostline.features.sources.kinds import SourceKind
from frostline.features.sources.labels import listed
from frostline.features.sources.libraries.joined import Part, joined_source, split_name
from frostline.features.sources.manifests.columns import find_columns
from frostline.features.table import ImageSource

PREFIX: Final = "hf:"


class _Images:
    """Bytes of the images of a split, as they are stored."""

    def __init__(self, rows: Any, column: str) -> None:
        self._rows, self._column = rows, column

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Any:
        cell = self._rows[index][self._column]
        if cell is None or (cell["bytes"] is None and not cell["path"]):
            return None
        return cell["bytes"] if cell["bytes"] is not None else Path(cell["path"])


def open_hugging_face(
    data: str, *, path_column: str | None = None, label_column: str | None = None
) -> ImageSource:
    """List the images of a data set of Hugging Face, which the library ``datasets`` downloads unless it is cached.

    Args:
        data: ``hf:NAME`` or ``hf:NAME:CONFIG``, where the name may be a local folder.
        path_column: Column of the images; by default the only one.
        label_column: Column of the labels, ``none`` for unlabelled images; by default ``label``.

    Raises:
        SourceError: The library is not installed, the data set can't be loaded, or a column is missing.
    """
    try:
        import datasets
    except ImportError as error:
        raise SourceError(
            f"{data}: data sets of Hugging Face need the library datasets; install it with: pip install"
            " 'frostline[datasets]'"
        ) from error
    name = split_name(data, PREFIX)
    try:
        found = datasets.load_dataset(*name)
    except Exception as error:  # the library raises errors of many packages
        raise SourceError(f"{data}: can't be loaded: {type(error).__name__}: {one_line(error)}") from error
    parts = {
        str(split): _part(rows, path_column, label_column, f"{data}, {split}")
        for split, rows in found.items()
    }
    return joined_source(data, parts, "".join(rows._fingerprint for rows in found.values()))  # noqa: SLF001


HUGGING_FACE = SourceKind(
    "hf:NAME of Hugging Face",
    lambda data: data.startswith(PREFIX),
    open_hugging_face,
    options=("path_column", "label_column"),
)


def _part(rows: Any, path_column: str | None, label_column: str | None, where: str) -> Part:
    import datasets

    images = [name for name, kind in rows.features.items() if isinstance(kind, datasets.Image)]
    if path_column is not None:
        images = [name for name in images if name == path_column]
    if len(images) != 1:
        raise SourceError(
            f"{where}: got {listed(images) or 'no column'} of images{f' called {path_column!r}' * bool(path_column)} among"
            f" {listed([*rows.features])}; name one with --path-column"
        )
    header = [name for name in rows.features if name not in images]
    taken = find_columns(header, {"label": label_column}, where, ("label",))
    labels = _labels(rows, header[taken["label"]]) if taken else [""] * len(rows)
    side = {
        name: _labels(rows, name)
        for index, name in enumerate(header)
        if index not in taken.values()
        and isinstance(rows.features[name], datasets.Value | datasets.ClassLabel)
    }
    return Part(_Images(rows.cast_column(images[0], datasets.Image(decode=False)), images[0]), labels, side)


def _labels(rows: Any, column: str) -> Sequence[str]:
    names = getattr(rows.features[column], "names", None)
    values = rows[column]
    if names is None:
        return ["" if value is None else str(value) for value in values]
    return ["" if value is None or value < 0 else names[value] for value in values]
