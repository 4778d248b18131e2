"""The column of a table that holds images."""

import pyarrow
from pyarrow import types

from frostline.features.errors import SourceError
from frostline.features.sources.labels import listed, words
from frostline.features.sources.manifests.columns import ROLES

_WORDS = frozenset({"image", "images", "img", "jpeg", "jpg", "photo", "picture", "png"})


def image_columns(schema: pyarrow.Schema) -> list[str]:
    """Return the columns that hold images.

    These are structs with the field ``bytes``, as in data sets of Hugging Face, and columns of bytes that are named like
    images. A column of bytes with another name may hold paths, and one that is named like a column of a manifest is that.
    """
    return [
        field.name
        for field in schema
        if field.name.strip().lower() not in ROLES
        and (_is_image(field.type) or (_is_binary(field.type) and words(field.name) & _WORDS))
    ]


def find_image_column(schema: pyarrow.Schema, chosen: str | None, where: str) -> str:
    """Return the column that holds the images.

    Args:
        schema: Schema of the table.
        chosen: Name of the column; None to find it.
        where: Place named in messages.

    Raises:
        SourceError: There is no such column, or there are several.
    """
    if chosen is not None:
        indices = schema.get_all_field_indices(chosen)
        if len(indices) == 1 and (_is_image(kind := schema.field(chosen).type) or _is_binary(kind)):
            return chosen
        raise SourceError(
            f"{where}: --path-column: got {chosen!r}, expected a column of images; got {_columns(schema)}"
        )
    found = image_columns(schema)
    if len(found) != 1:
        what = (
            f"several columns of images, {listed(found)}"
            if found
            else f"no column of images among {_columns(schema)}"
        )
        raise SourceError(f"{where}: {what}; name one with --path-column")
    return found[0]


def cell_bytes(cell: object) -> bytes | None:
    """Return the bytes of an image in a cell; None if it has none."""
    found = cell.get("bytes") if isinstance(cell, dict) else cell
    return found if isinstance(found, bytes) else None


def _is_image(kind: pyarrow.DataType) -> bool:
    if not types.is_struct(kind):
        return False
    index = kind.get_field_index("bytes")
    return index >= 0 and _is_binary(kind.field(index).type)


def _is_binary(kind: pyarrow.DataType) -> bool:
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _columns(schema: pyarrow.Schema) -> str:
    return listed([f"{field.name} ({str(field.type)[:40]})" for field in schema])
