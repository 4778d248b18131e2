"""Files for the projector of TensorBoard: vectors, metadata, and thumbnails if wanted."""

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from frostline.escapes import visible
from frostline.features.images.thumbnails import Pictures
from frostline.pipeline.drawing.thumbnails import check_source, opened_pictures, warn_of_obstacle
from frostline.pipeline.errors import ExportError
from frostline.pipeline.exporting.csv_file import text_columns, text_rows
from frostline.pipeline.exporting.exporters import ALL_FLOAT32, Export, Exporter
from frostline.system.atomic import replace_file, write_file, write_text_file

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHOWN = 100_000  # the projector draws a sample of more
_SPRITE, _SIDE, _LEAST = (
    8192,
    64,
    8,
)  # pixels: largest side of a sprite, largest and smallest side of a thumbnail


def _write(export: Export, folder: Path) -> None:
    side = _sprite_side(export) if export.options.sprite else 0
    if len(export.selection) > _SHOWN:
        export.options.report.note(
            f"The projector of TensorBoard draws a random sample of {_SHOWN:,} of the {len(export.selection):,} rows."
        )
    for layer in export.selection.layers:
        with write_file(folder / f"{export.names[layer.key]}.bytes") as file:
            for values in export.features(layer.key):
                file.write(np.ascontiguousarray(values, "<f4").reshape(-1).view(np.uint8).data)
    with write_text_file(folder / "metadata.tsv") as text:
        text.write("\t".join(map(visible, text_columns(export))) + "\n")
        rows = export.of_layers()
        for block in rows.blocks():
            for cells in text_rows(rows, block):
                text.write("\t".join(visible(str(cell)) for cell in cells) + "\n")
    sprite = bool(side) and _write_sprite(export, folder / "sprite.png", side)
    parts = [
        _embedding(export, layer.key, layer.dim, side if sprite else 0) for layer in export.selection.layers
    ]
    replace_file(folder / "projector_config.pbtxt", "".join(parts).encode())


def _embedding(export: Export, key: str, dim: int, side: int) -> str:
    """Return the entry of a layer in the configuration, as a text of Protocol Buffers."""
    lines = [
        f"tensor_name: {_quoted(key)}",
        f"tensor_path: {_quoted(f'{export.names[key]}.bytes')}",
        f"tensor_shape: {len(export.selection)}",
        f"tensor_shape: {dim}",
        'metadata_path: "metadata.tsv"',
    ]
    if side:
        lines.append(
            f'sprite {{ image_path: "sprite.png" single_image_dim: {side} single_image_dim: {side} }}'
        )
    return "embeddings {\n" + "".join(f"  {line}\n" for line in lines) + "}\n"


def _quoted(text: str) -> str:
    escaped = "".join(
        chr(byte) if 32 <= byte < 127 and chr(byte) not in "\"'\\" else f"\\{byte:03o}"
        for byte in text.encode()
    )
    return f'"{escaped}"'


def _sprite_side(export: Export) -> int:
    """Return the side of a thumbnail in pixels, at which all fit into the largest sprite."""
    columns = math.ceil(math.sqrt(len(export.selection)))
    side = min(_SIDE, _SPRITE // columns)
    if side < _LEAST:
        raise ExportError(
            f"--sprite: TensorBoard takes a picture of {_SPRITE} x {_SPRITE} pixels, which has no place for the"
            f" {len(export.selection):,} images; leave --sprite out, or choose rows with --split"
        )
    check_source(export.selection.cache, export.options.source)
    return side


def _write_sprite(export: Export, path: Path, side: int) -> bool:
    """Write a picture with the thumbnails in rows; return whether the images can be opened."""
    with opened_pictures(export.selection.cache, export.options.source) as pictures:
        warn_of_obstacle(pictures, export.options.report)
        if pictures.obstacle:
            return False
        columns = math.ceil(math.sqrt(len(export.selection)))
        sprite = Image.new("RGB", (columns * side, columns * side))
        missing = 0
        with export.options.report.task("Drawing", len(export.selection)) as advance:
            for place, picture in enumerate(_thumbnails(export, pictures, side)):
                if picture is None:
                    missing += 1
                else:
                    sprite.paste(picture, (place % columns * side, place // columns * side))
                advance(1)
    if missing:
        export.options.report.warn(f"{missing} images can't be read; their cells of the sprite are empty.")
    data = io.BytesIO()
    sprite.save(data, "PNG")
    replace_file(path, data.getvalue())
    return True


def _thumbnails(export: Export, pictures: Pictures, side: int) -> "Iterator[Image.Image | None]":
    for row in export.selection.rows.tolist():
        yield pictures.thumbnail(row, side).picture


TENSORBOARD = Exporter(
    "folder for the projector of TensorBoard",
    _write,
    "-tensorboard",
    folder=True,
    holds_description=False,
    dtypes=ALL_FLOAT32,
    taken=("metadata",),
    forbidden='/\\:*?"<>|',
    settings=("sprite",),
)
