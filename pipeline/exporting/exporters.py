"""Interface and registry of the exporters."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from frostline.pipeline.errors import ExportError
from frostline.registry import Entry, Registry

if TYPE_CHECKING:  # the command line reads the registry without loading NumPy
    from frostline.features.cache.selection import Block, Selection
    from frostline.pipeline.options.vectors.exporting import ExportOptions
    from frostline.pipeline.progress import Advance

KEPT: Mapping[str, str] = {"float32": "float32", "float16": "float16", "bfloat16": "float32"}
"""Number format that is written for each of a cache, in a format that lacks bfloat16."""

ALL_FLOAT32: Mapping[str, str] = dict.fromkeys(KEPT, "float32")
"""The same for a format that has float32 alone."""


@dataclass(frozen=True, eq=False)
class Export:
    """What is written.

    Attributes:
        selection: Rows and layers. Its blocks are read with `blocks` and `features`, which report progress.
        names: Name of each layer in the format, by key.
        columns: Name of each side column in the format, by its name in the cache.
        description: JSON text of `frostline.features.cache.selection.Selection.description`, with the name of each
            layer, ``dtype``, and the options of the format.
        options: Options of the stage.
        advance: Progress over the vectors of all layers.
    """

    selection: "Selection"
    names: Mapping[str, str]
    columns: Mapping[str, str]
    description: str
    options: "ExportOptions"
    advance: "Advance"

    def blocks(self) -> "Iterator[Block]":
        """Iterate over the rows with the features of all layers."""
        for block in self.selection.blocks():
            yield block
            self.advance(len(block.rows) * len(block.features))

    def features(self, key: str) -> Iterator[Any]:
        """Iterate over the (k, dim) features of one layer, float32 or float16."""
        for block in self.of_layers(key).blocks():
            yield block.features[key]
            self.advance(len(block.rows))

    def of_layers(self, *keys: str) -> "Selection":
        """Return the selection with some of its layers, or none."""
        from dataclasses import replace

        return replace(
            self.selection, layers=tuple(each for each in self.selection.layers if each.key in keys)
        )


@dataclass(frozen=True)
class Exporter:
    """A format that vectors are written in.

    Attributes:
        summary: What is written, in a few words.
        write: Function that writes an `Export`: to an open binary file, or into an empty folder, whose files it
            creates with `frostline.system.atomic`. It holds a few blocks in memory, whatever the number of rows.
        suffix: End of the name of the file or folder, such as ``.parquet``.
        folder: Whether a folder is written.
        holds_description: Whether the file itself holds the description. If not, it is written beside the file, as
            ``FILE.json``, or into the folder, as ``provenance.json``.
        dtypes: Number format that is written, by that of the cache.
        taken: Names that no layer and no side column may have.
        forbidden: Characters that the name of a layer or side column may not have.
        settings: Options that only some formats have, and this one has.
    """

    summary: str
    write: Callable[[Export, Any], None]
    suffix: str
    folder: bool = False
    holds_description: bool = True
    dtypes: Mapping[str, str] = field(default_factory=lambda: KEPT)
    taken: tuple[str, ...] = ()
    forbidden: str = ""
    settings: tuple[str, ...] = ()


_HERE = "frostline.pipeline.exporting"

EXPORTERS: Registry[Exporter] = Registry(
    "format",
    {
        "parquet": Entry(f"{_HERE}.arrow_files:PARQUET", "pyarrow", "parquet"),
        "arrow": Entry(f"{_HERE}.arrow_files:ARROW", "pyarrow", "parquet"),
        "csv": Entry(f"{_HERE}.csv_file:CSV"),
        "npz": Entry(f"{_HERE}.numpy_files:NPZ"),
        "npy": Entry(f"{_HERE}.numpy_files:NPY"),
        "safetensors": Entry(f"{_HERE}.safetensors_file:SAFETENSORS"),
        "anndata": Entry(f"{_HERE}.anndata_file:ANNDATA"),
        "faiss": Entry(f"{_HERE}.faiss_index:FAISS"),
        "lancedb": Entry(f"{_HERE}.lancedb_table:LANCEDB", "lancedb", "lancedb"),
        "tensorboard": Entry(f"{_HERE}.tensorboard_projector:TENSORBOARD"),
        "webdataset": Entry(f"{_HERE}.webdataset_shards:WEBDATASET"),
    },
    group="frostline.exporters",
    adopt=lambda _name, found: found if isinstance(found, Exporter) else None,
    expected="a pipeline.exporting.exporters.Exporter",
    error=ExportError,
)
"""Registry of the formats."""
